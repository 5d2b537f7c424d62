"""StreamEvents: groups of events in, results out, in order.

    reader task:  read -> parse -> ingest task started, in order -> window (bounded)
    handler:      window -> result awaited, in order -> written

Groups overlap so that the store can commit several of them together; the window bounds how many. Their ingest
tasks start in the order of the groups, and the store appends in the order in which it is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio

from recserv import v1 as pb
from recserv.server.call import Call, ServicerContext, parser
from recserv.server.handlers import Handler, HandlerFactory
from recserv.server.status import ServerDraining

GROUPS_IN_FLIGHT_MAX = 8

Group = asyncio.Future[pb.StreamEventsResponse]
GroupMethod = Callable[[pb.StreamEventsRequest, Call], Awaitable[pb.StreamEventsResponse]]


class _Window:
    """Groups that were read and not yet answered. The last entry is None, or the error that ended the reading."""

    def __init__(self) -> None:
        self._entries: asyncio.Queue[Group | Exception | None] = asyncio.Queue()
        # A place is taken before a group is read, and given back once it is answered.
        self.places = asyncio.Semaphore(GROUPS_IN_FLIGHT_MAX)

    def put(self, entry: Group | Exception | None) -> None:
        self._entries.put_nowait(entry)

    def reader_ended(self, reader: asyncio.Task[None]) -> None:
        """A callback, since a reader that is cancelled before its first step cannot report its end itself."""
        if reader.cancelled():
            # Either the server is draining, and the client is to be told so, or the client is gone.
            self.put(ServerDraining("the server is shutting down; send again what was not acknowledged"))

    async def next_group(self) -> Group | None:
        entry = await self._entries.get()
        if isinstance(entry, Exception):
            try:
                raise entry
            finally:
                # Breaks a reference cycle: the error's traceback refers to this frame.
                del entry
        return entry

    def cancel(self) -> None:
        """Drops groups that nobody waits for any more. The store still finishes what it has taken."""
        while not self._entries.empty():
            entry = self._entries.get_nowait()
            if isinstance(entry, asyncio.Future):
                entry.cancel()


def event_stream(factory: HandlerFactory, method: GroupMethod) -> Handler:
    run = factory.interceptor("StreamEvents", factory.admission.streams).run
    parse = parser(pb.StreamEventsRequest)

    async def read_groups(call: Call, window: _Window) -> None:
        try:
            while True:
                await window.places.acquire()
                raw = await call.context.read()
                if raw is grpc.aio.EOF:  # type: ignore[attr-defined]
                    window.put(None)
                    return
                window.put(asyncio.ensure_future(method(parse(raw), call)))
        except Exception as error:
            window.put(error)

    async def work(_: object, call: Call) -> None:
        window = _Window()
        reader = asyncio.create_task(read_groups(call, window))
        reader.add_done_callback(window.reader_ended)
        factory.admission.interrupt_on_close(reader)
        group: Group | None = None
        try:
            while (group := await window.next_group()) is not None:
                await call.context.write((await group).SerializeToString())
                window.places.release()
        finally:
            # Breaks a reference cycle: it holds the error that it ended with, whose traceback refers to this frame.
            group = None
            reader.cancel()
            window.cancel()

    async def handle(_: object, context: ServicerContext) -> None:
        await run(work, None, context)

    return grpc.stream_stream_rpc_method_handler(handle)
