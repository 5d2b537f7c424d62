"""Explanations as server-sent events, as they become final.

    event: explanation    data: WatchExplanationsResponse as JSON
    event: end            all have been told: a page closes its EventSource, which would open the stream anew
    event: error          the same JSON as an error's body; what was told may be told again by the next stream

What fails before the first event is an error like any other, with its HTTP status. A stream that is open has no
deadline but the server's: it ends with the call, with its reader, or when the gateway drains.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import msgspec
from google.protobuf.message import Message
from starlette.responses import Response

from recserv.gateway.answers import error_dict, message_json, refusal, status_of_call
from recserv.gateway.front import Places, Receive, Scope, Send

_ALIVE = b": alive\n\n"
_END = b"event: end\ndata: {}\n\n"
_DRAIN_RETRY_MS = 1_000


class EventStream(Response):
    """Of one call; holds its place from before the first event until it has ended."""

    media_type = "text/event-stream"

    def __init__(self, call: Any, first: asyncio.Future[Any], places: Places, heartbeat_s: float, drain: asyncio.Event):
        super().__init__()
        self._call, self._next, self._places = call, first, places
        self._heartbeat_s, self._drain = heartbeat_s, drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_gone(receive))
        draining = asyncio.ensure_future(self._drain.wait())
        try:
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while not gone.done():
                event, last = self._event(draining)
                await send({"type": "http.response.body", "body": event, "more_body": not last})
                if last:
                    break
                await asyncio.wait(
                    {self._next, gone, draining}, timeout=self._heartbeat_s, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            # Also when nobody listens any more.
            self._call.cancel()
            for waiting in (gone, draining, self._next):
                waiting.cancel()
            self._places.__exit__()

    def _event(self, draining: asyncio.Future[Any]) -> tuple[bytes, bool]:
        """What there is to say now, and whether it is the last."""
        if not self._next.done():
            if not draining.done():
                return _ALIVE, False
            status = refusal("UNAVAILABLE", "DRAINING", "the gateway ends", retry_after_ms=_DRAIN_RETRY_MS).status
            return _named("error", msgspec.json.encode(error_dict(status))), True
        try:
            message = self._next.result()
        except grpc.RpcError as error:
            return _named("error", msgspec.json.encode(error_dict(status_of_call(error)))), True
        if not isinstance(message, Message):
            return _END, True
        self._next = next_of(self._call)
        return _named("explanation", message_json(message)), False


def next_of(call: Any) -> asyncio.Future[Any]:
    """The next message of a call that streams; grpc.aio.EOF at its end."""
    reading: asyncio.Future[Any] = asyncio.ensure_future(call.read())
    return reading


def _named(event: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event.encode(), data)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
