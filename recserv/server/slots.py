"""Several calls of one method taken from gRPC at a time.

    gRPC's core: calls that came -> a slot asks for one -> the event loop is woken -> door -> handler as a task

grpc.aio itself asks for the next call of a method only after it was given the last one: one call in some five turns of
the event loop, however many wait. What waits there nobody in Python sees, and nobody can turn it away. With more slots
a turn brings in what came during the last one, and one waking of the loop serves many calls: the handler that does
nothing answered half as many calls again at 64 at once, recserv itself a fifth more at 8.

A call's handling is begun by its slot: whoever is turned away at the door is told so, and the others' messages are
asked for, in the turn in which the call is taken. As a task of a task, which is grpc.aio's way, it would be two later.

Nothing public does this. The names used are grpcio's own, so they are used with the versions that were tried alone;
with any other its one slot does everything, slower and no less right.
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
"""Eight take most of what there is to gain."""


class Slots:
    """More slots for one method of a server, from `open` until the server stops.

    The method must be known to the server as registered without a handler, and `find_handler` be one of its generic
    handlers': gRPC's own slot asks it too.
    """

    def __init__(self, server: grpc.aio.Server, method: str, find_handler: grpc.GenericRpcHandler[Any, Any]):
        self._core: Any = server._server  # type: ignore[attr-defined]
        self._method, self._name = method.encode(), method
        self._find_handler = find_handler
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, count: int = SLOTS) -> int:
        """After the server's start. Returns how many there are."""
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
                # The server stops, or the call was gone before it could be taken.
                continue
            handling = begun(cygrpc._handle_rpc(self._name, resolver, (), call, loop, False))
            self._keep(loop.create_task(cygrpc._schedule_rpc_coro(handling, call, loop, self._name)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        # The loop itself holds tasks weakly.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def begun(work: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
    """Takes the first step of a coroutine, up to what it waits for; to await what is returned does the rest, and raises
    what the first step raised. In the first step the current task is the caller's.
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
        # Its traceback leads here: without this it would hold itself, and all that its frames hold.
        del error


@types.coroutine
def _rest(work: Any, waits_for: Any) -> Generator[Any, Any, Any]:
    while True:
        try:
            step = partial(work.send, (yield waits_for))
        except BaseException as error:
            step = partial(work.throw, error)
        # If it failed it knows the error as well.
        del waits_for
        try:
            waits_for = step()
        except StopIteration as end:
            return end.value
        finally:
            # It may hold an error, whose traceback leads here.
            del step
