"""Messages of a streaming call as server-sent events: what all such paths share, and the stream of explanations.

    event: explanation    data: WatchExplanationsResponse as JSON
    event: end            all have been told: a page closes its EventSource, which would open the stream anew
    event: error          the same JSON as an error's body; what was told may be told again by the next stream

A failure before the first event is an error like any other, with its HTTP status. A stream that is open has no
deadline but the server's: it ends with the call, with its reader, or when the gateway drains.

The next message is read once the reader's socket has taken the last one: a slow reader holds back its call and has one
message here, however many there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import grpc
import msgspec
from google.protobuf.message import Message
from google.rpc import status_pb2
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recserv.gateway.answers import error_dict, json_of, refusal, status_of_call
from recserv.gateway.calls import nobody_waits, until_gone
from recserv.gateway.front import Places, Receive, Scope, Send

TRANSPORT = "transport"
"""Key of `scope["state"]` for the connection's transport, if the process sets it."""
MEDIA_TYPE = "text/event-stream"
_ALIVE = b": alive\n\n"
_DRAIN_RETRY_MS = 1_000


class Pace(msgspec.Struct, frozen=True):
    """`head_after_s`: how long the first message may take before the stream begins without it."""

    head_after_s: float
    heartbeat_s: float


class EventStream(Response):
    """The events of one call; holds its place from before the first event until it has ended. Subclasses write them."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        call: Any,
        first: asyncio.Future[Any],
        gone: asyncio.Future[None],
        places: Places,
        pace: Pace,
        drain: asyncio.Event,
    ):
        super().__init__()
        self._call, self._next, self._gone, self._places = call, first, gone, places
        self._pace, self._drain = pace, drain

    def head(self) -> bytes:
        """Sent before all events."""
        return b""

    async def told(self, message: Message) -> bytes:
        raise NotImplementedError

    def ended(self) -> bytes:
        """Sent after the call's last message."""
        raise NotImplementedError

    def failed(self, status: status_pb2.Status) -> bytes:
        return named("error", error_json(status))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        draining = asyncio.ensure_future(self._drain.wait())
        transport = scope["state"].get(TRANSPORT)
        try:
            # So that a write waits for the socket.
            _limit(transport, 0)
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._send_all(send, draining)
        finally:
            # Also when nobody listens any more.
            self._call.cancel()
            for waiting in (self._gone, draining, self._next):
                waiting.cancel()
            self._places.__exit__()
            _limit(transport, None)

    async def _send_all(self, send: Send, draining: asyncio.Future[Any]) -> None:
        head = self.head()
        while not self._gone.done():
            taken = self._next.done()
            event, last = await self._event(draining)
            await send({"type": "http.response.body", "body": head + event, "more_body": not last})
            head = b""
            if last:
                break
            if taken:
                # An empty write: returns once the socket has taken what was sent before.
                await send({"type": "http.response.body", "body": b"", "more_body": True})
                self._next = next_of(self._call)
            waited_for = {self._next, self._gone, draining}
            await asyncio.wait(waited_for, timeout=self._pace.heartbeat_s, return_when=asyncio.FIRST_COMPLETED)

    async def _event(self, draining: asyncio.Future[Any]) -> tuple[bytes, bool]:
        """What to send now, and whether it is the last."""
        if not self._next.done():
            if not draining.done():
                return _ALIVE, False
            why = refusal("UNAVAILABLE", "DRAINING", "the gateway ends", retry_after_ms=_DRAIN_RETRY_MS)
            return self.failed(why.status), True
        try:
            message = self._next.result()
        except grpc.RpcError as error:
            return self.failed(status_of_call(error)), True
        if not isinstance(message, Message):
            return self.ended(), True
        return await self.told(message), False


class ExplanationStream(EventStream):
    async def told(self, message: Message) -> bytes:
        return named("explanation", await json_of(message))

    def ended(self) -> bytes:
        return named("end", b"{}")


def stream_route(path: str, endpoint: Callable[[Request], Awaitable[Response]], *methods: str) -> Route:
    """Without HEAD, which Starlette adds to GET: it would open a stream without a body that holds a place."""
    route = Route(path, endpoint, methods=methods)
    route.methods = set(methods)
    return route


async def open_stream(
    kind: type[EventStream],
    start: Callable[[], Any],
    request: Request,
    places: Places,
    pace: Pace,
    drain: asyncio.Event,
) -> EventStream:
    """`start` makes the call. Failures before the first event are raised, so that they get their HTTP status: Refused
    if all places are taken, and the grpc.RpcError of a call that fails at once.
    """
    with ExitStack() as undone:
        places.__enter__()
        undone.callback(places.__exit__)
        call = start()
        undone.callback(call.cancel)
        first, gone = next_of(call), until_gone(request)
        undone.callback(first.cancel)
        undone.callback(gone.cancel)
        await asyncio.wait({first, gone}, timeout=pace.head_after_s, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            raise nobody_waits()
        if first.done():
            # Raises the error of a call that failed.
            first.result()
        # From here on the stream owns all of it.
        undone.pop_all()
    return kind(call, first, gone, places, pace, drain)


def next_of(call: Any) -> asyncio.Future[Any]:
    """The next message of a call that streams; grpc.aio.EOF at its end."""
    reading: asyncio.Future[Any] = asyncio.ensure_future(call.read())
    return reading


def named(event: str, data: bytes, more: bytes = b"") -> bytes:
    """`more`: further lines of the event."""
    return b"event: %s\n%sdata: %s\n\n" % (event.encode(), more, data)


def error_json(status: status_pb2.Status) -> bytes:
    return msgspec.json.encode(error_dict(status))


def _limit(transport: Any, high_bytes: int | None) -> None:
    """Limits how much may wait in the process for the socket; None: the default."""
    if transport is not None and not transport.is_closing():
        transport.set_write_buffer_limits(high=high_bytes)
