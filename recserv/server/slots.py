"""Takes several calls of one method from gRPC at a time.

    gRPC's core: calls that came -> a slot asks for one -> the event loop is woken -> door -> handler as a task

grpc.aio requests the next call of a method only after it has received the last one: one call in some five turns of the
event loop, however many wait. Python code can neither see nor reject the calls that wait there. With more slots a turn
takes in what arrived during the last one, and one wake-up of the loop serves many calls: the null handler answered half
as many calls again at a concurrency of 64, recserv itself a fifth more at 8.

The slot runs the first step of a call's handling: calls turned away at the door are told so, and the other calls'
messages are requested, in the turn in which the call is taken. As a task of a task, grpc.aio's way, it would be two
turns later.

No public API does this. The names used are grpcio's private ones, so they are used with tested versions only; with any
other version its single slot does everything, slower but no less correctly.
"""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Awaitable, Coroutine, Generator
from functools import partial
from typing import Any

import grpc
import grpc.aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from recserv.grpc_internals import TRIED, tried

logger = logging.getLogger("recserv.server")

SLOTS = 32
"""More than eight gain little."""


class Slots:
    """Additional slots for one method of a server, from `open` until the server stops.

    The method must be registered with the server without a handler, and `find_handler` must belong to one of its
    generic handlers: gRPC's own slot asks that, too.
    """

    def __init__(self, server: grpc.aio.Server, method: str, find_handler: grpc.GenericRpcHandler[Any, Any]):
        self._core: Any = server._server  # type: ignore[attr-defined]
        self._method, self._name = method.encode(), method
        self._find_handler = find_handler
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, count: int = SLOTS) -> int:
        """To be called once the server has started. Returns how many slots there are."""
        if not tried():
            fields = {"grpcio": grpc.__version__, "tried": TRIED}
            logger.warning("calls are taken one at a time", extra={"fields": fields})
            return 0
        resolver = cygrpc._MethodResolver([self._find_handler], {})
        loop = asyncio.get_running_loop()
        for _ in range(count):
            self._keep(loop.create_task(self._take_calls(resolver, loop)))
        return count

    async def _take_calls(self, resolver: Any, loop: asyncio.AbstractEventLoop) -> None:
        while self._core.is_running():
            try:
                call = await self._core._request_registered_call(self._method)
            except cygrpc._RequestCallError:
                # The server is stopping, or the call was gone before it could be taken.
                continue
            handling = begun(cygrpc._handle_rpc(self._name, resolver, (), call, loop, False))
            self._keep(loop.create_task(cygrpc._schedule_rpc_coro(handling, call, loop, self._name)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        # The loop keeps only weak references to tasks.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def begun(work: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
    """Runs the first step of a coroutine, up to its first wait. Awaiting what is returned does the rest, and raises
    what the first step raised. During the first step the current task is the caller's.
    """
    try:
        waits_for = work.send(None)
    except StopIteration as end:
        return _ended(end.value)
    except (Exception, asyncio.CancelledError) as error:
        return _failed(error)
    return _rest(work, waits_for)


async def _ended(value: Any) -> Any:
    return value


async def _failed(error: BaseException) -> Any:
    try:
        raise error
    finally:
        # Breaks a reference cycle: the error's traceback refers to this frame, and that to the error.
        del error


@types.coroutine
def _rest(work: Any, waits_for: Any) -> Generator[Any, Any, Any]:
    while True:
        try:
            step = partial(work.send, (yield waits_for))
        except BaseException as error:
            step = partial(work.throw, error)
        # If it failed, it holds the error as well.
        del waits_for
        try:
            waits_for = step()
        except StopIteration as end:
            return end.value
        finally:
            # It may hold an error, whose traceback refers to this frame.
            del step
