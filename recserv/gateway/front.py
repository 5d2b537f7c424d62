"""What every request passes through, on any path: its id, its place among those in flight, the headers of its answer.

Plain ASGI around the routes, so that unknown paths are also answered as JSON and under the request's id.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

from recserv.gateway.answers import refusal
from recserv.gateway.calls import REQUEST_ID, request_id_of

_log = logging.getLogger(__name__)
_BUSY_RETRY_MS = 100
_OF_EVERY_ANSWER = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""An answer is never cached or shared, nor taken for another type than it says, whatever its titles look like."""

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Places:
    """At most `most` may be taken at once."""

    def __init__(self, most: int):
        self.most, self.taken = most, 0

    def __enter__(self) -> None:
        if self.taken >= self.most:
            message = f"the gateway has {self.most} requests of this kind in flight"
            raise refusal("RESOURCE_EXHAUSTED", "GATEWAY_BUSY", message, retry_after_ms=_BUSY_RETRY_MS)
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        self.taken -= 1


class Front:
    """Sets `scope["state"]["request_id"]` for the routes."""

    def __init__(self, app: App):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = request_id_of(Headers(scope=scope).get(REQUEST_ID, ""))
        scope.setdefault("state", {})["request_id"] = request_id
        answered = False

        async def send_named(message: Any) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                for name, value in _OF_EVERY_ANSWER.items():
                    headers[name] = value
            await send(message)
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive, send_named)
        except Exception:
            # Starlette answers first and raises afterwards. The error stays in the log, under the same request id.
            _log.exception("a request failed", extra={"fields": {"request_id": request_id}})
            if not answered:
                raise
