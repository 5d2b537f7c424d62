"""What gRPC's core was lent for a batch of operations is freed when the batch ends, however it ends.

    handler -> execute_batch -> grpcio's, which lends -> core ... core has ended -> grpcio's goes on, frees -> handler

grpcio frees it in the coroutine that waits for the batch, in its last line. Where the batch fails, because the client
has gone, or the wait is cancelled, because the client is going, that line is never reached: the operations stay, and
with them what they hold of the call. In the mix of `tests/soak` some 13 KB for each caller that gives up.
(https://github.com/grpc/grpc/issues/43360, open as of 1.85.)

So the coroutine is led to its end here, by the core's word that the batch has ended, and whoever waits waits for that.
It sees a success always; the failure goes to who waits. As in `slots`, the names used are grpcio's own: with a version
that was not tried they are left alone, and the memory is lost as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from grpc._cython import cygrpc  # type: ignore[attr-defined]

from recserv.grpc_internals import tried

ExecuteBatch = Callable[[Any, Any, asyncio.AbstractEventLoop], Coroutine[Any, Any, None]]


def free_ended_batches() -> bool:
    """In this process, from now on. False if grpcio's version was not tried."""
    if tried() and not getattr(cygrpc.execute_batch, "frees", False):
        cygrpc.execute_batch = freeing(cygrpc.execute_batch)
    return tried()


def freeing(execute: ExecuteBatch) -> ExecuteBatch:
    """`execute`, gone through to its end even if the batch fails or nobody waits for it any more."""

    async def execute_batch(call: Any, operations: Any, loop: asyncio.AbstractEventLoop) -> None:
        ended = loop.create_future()
        batch = _Batch(loop, ended)
        batch.begin(execute(call, operations, batch))  # type: ignore[arg-type]
        try:
            await ended
        finally:
            # They know the error of a failure, it this frame, and this frame the answer.
            del ended, batch

    execute_batch.frees = True  # type: ignore[attr-defined]
    return execute_batch


class _Batch:
    """Of the loop and the future that `execute` is given, as much as it uses."""

    __slots__ = ("_ended", "_loop", "_work")

    def __init__(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]):
        self._loop, self._ended = loop, ended
        self._work: Coroutine[Any, Any, None] | None = None

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Up to where it waits for the core. Raises what `work` raises if the core does not take the batch."""
        work.send(None)
        self._work = work

    def create_future(self) -> _Batch:
        return self

    def call_soon_threadsafe(self, callback: Callable[..., object], *given: Any) -> None:
        """Called wherever an event of the core is found whose loop is not the one that looked."""
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
        # They know each other.
        work, self._work = self._work, None
        assert work is not None, "a batch ended before it began, or twice"
        try:
            work.send(None)
        except StopIteration:
            # It is through.
            pass
        except Exception as failure:
            error = failure
        # Who waited may be gone.
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)
