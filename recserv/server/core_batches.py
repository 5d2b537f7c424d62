"""Frees what grpcio lends gRPC's core for a batch of operations when the batch ends, however it ends.

    handler -> execute_batch -> grpcio's, which lends -> core ... core has ended -> grpcio's goes on, frees -> handler

grpcio frees it in the last line of the coroutine that awaits the batch. If the batch fails because the client is gone,
or the wait is cancelled because the client is leaving, that line is never reached, and the operations leak with all
that they refer to: some 13 KB for each caller that gives up, in the mix of `tests/soak`.
(https://github.com/grpc/grpc/issues/43360, open as of 1.85.)

So the coroutine is driven to its end here once the core reports that the batch has ended, and the caller waits for
that. The coroutine always sees a success; a failure is raised in the caller. As in `slots`, this uses grpcio's private
names: with an untested version nothing is patched, and the memory leaks as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from grpc._cython import cygrpc  # type: ignore[attr-defined]

from recserv.grpc_internals import tried

ExecuteBatch = Callable[[Any, Any, asyncio.AbstractEventLoop], Coroutine[Any, Any, None]]


def free_ended_batches() -> bool:
    """Patches grpcio in this process. False, and nothing patched, if its version is untested."""
    if tried() and not getattr(cygrpc.execute_batch, "frees", False):
        cygrpc.execute_batch = freeing(cygrpc.execute_batch)
    return tried()


def freeing(execute: ExecuteBatch) -> ExecuteBatch:
    """`execute`, run to its end even if the batch fails or its caller is cancelled."""

    async def execute_batch(call: Any, operations: Any, loop: asyncio.AbstractEventLoop) -> None:
        ended = loop.create_future()
        batch = _Batch(loop, ended)
        batch.begin(execute(call, operations, batch))  # type: ignore[arg-type]
        try:
            await ended
        finally:
            # Breaks a reference cycle: they hold the error, its traceback this frame, and this frame the answer.
            del ended, batch

    execute_batch.frees = True  # type: ignore[attr-defined]
    return execute_batch


class _Batch:
    """Stands in for the loop and the future that `execute` expects, as far as it uses them."""

    __slots__ = ("_ended", "_loop", "_work")

    def __init__(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]):
        self._loop, self._ended = loop, ended
        self._work: Coroutine[Any, Any, None] | None = None

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` until it awaits the core. Raises what `work` raises if the core rejects the batch."""
        work.send(None)
        self._work = work

    def create_future(self) -> _Batch:
        return self

    def call_soon_threadsafe(self, callback: Callable[..., object], *given: Any) -> None:
        """Called by grpcio when an event of the core belongs to another loop than the one that polled it."""
        if asyncio.get_running_loop() is self._loop:
            callback(*given)
        else:
            self._loop.call_soon_threadsafe(callback, *given)

    def __await__(self) -> Generator[None, None, None]:
        yield

    def cancelled(self) -> bool:
        return False

    def set_result(self, _: None) -> None:
        self._end(None)

    def set_exception(self, error: BaseException) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        # They refer to each other.
        work, self._work = self._work, None
        assert work is not None, "a batch ended before it began, or twice"
        try:
            work.send(None)
        except StopIteration:
            # It has finished.
            pass
        except Exception as failure:
            error = failure
        # The caller may have been cancelled.
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)
