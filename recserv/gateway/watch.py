"""/api/v1/watch: the recommendations of a session as server-sent events, again whenever they change.

    retry: MS                  when to come back, another number for each reader: those who lose a gateway together do
                               not come back together
    event: recommendations     id: the resume token    data: WatchRecommendationsResponse as JSON
    event: error               the same JSON as an error's body, with retry: of its own; then the stream ends

An EventSource reconnects by itself after any end of a stream, and sends the last id as Last-Event-ID: it goes on where
it was, at any gateway. It gives up for good at the first HTTP status that is not 200. So a reader that reconnects gets
a transient error (UNAVAILABLE, RESOURCE_EXHAUSTED) as an event of a stream that then ends, and only other errors as an
HTTP status; a reader that connects for the first time gets every error as a status.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recserv import v1 as pb
from recserv.gateway.answers import Refused, code_name, json_of, refusal, retry_after_ms, status_of_call
from recserv.gateway.calls import LAST_EVENT_ID, How, Target, metadata_of, name_request
from recserv.gateway.front import Places
from recserv.gateway.methods import WATCH_RECOMMENDATIONS
from recserv.gateway.openapi import LAST_EVENT_ID_PARAMETER, WATCH_PATH
from recserv.gateway.parse import message_of_query
from recserv.gateway.settings import GatewaySettings
from recserv.gateway.sse import MEDIA_TYPE, EventStream, Pace, error_json, named, open_stream, stream_route

_HEAD_AFTER_S = 0.5
"""A resumed watch may stay silent for long: after this time its reader learns that it is open."""
_RETRY_MS = 1_000
_PASSING = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})


class WatchStream(EventStream):
    def head(self) -> bytes:
        return _retry(None) + b"\n"

    async def told(self, message: Any) -> bytes:
        return named("recommendations", await json_of(message), b"id: %s\n" % message.resume_token.encode())

    def ended(self) -> bytes:
        # A watch never ends by itself.
        return self.failed(refusal("UNAVAILABLE", "STREAM_ENDED", "the server ended the stream").status)

    def failed(self, status: status_pb2.Status) -> bytes:
        return _failed(status)


class Watch:
    """The routes. `body` reads a request's body."""

    def __init__(
        self,
        settings: GatewaySettings,
        target: Target,
        draining: asyncio.Event,
        body: Callable[[Request, Any], Awaitable[Message]],
    ):
        self._target, self._draining, self._body = target, draining, body
        heartbeat_s = settings.heartbeat_ms / 1000
        self._pace = Pace(min(_HEAD_AFTER_S, heartbeat_s), heartbeat_s)
        # Separate places: pages that stay open must not take those of explanations, which are soon done.
        self.places = Places(settings.max_watches)

    def routes(self) -> list[Route]:
        return [stream_route(WATCH_PATH, self._asked, "GET", "POST")]

    async def _asked(self, request: Request) -> Response:
        """POST is for readers other than an EventSource: it keeps everything about the shopper out of the URL."""
        return await (self._of_query if request.method == "GET" else self._of_body)(request)

    async def _of_query(self, request: Request) -> Response:
        pairs = request.query_params.multi_items()
        asked: Any = message_of_query(
            [pair for pair in pairs if pair[0] != LAST_EVENT_ID_PARAMETER], pb.RecommendRequest
        )
        token = request.query_params.get(LAST_EVENT_ID_PARAMETER, "")
        return await self._open(request, pb.WatchRecommendationsRequest(request=asked, resume_token=token))

    async def _of_body(self, request: Request) -> Response:
        return await self._open(request, await self._body(request, pb.WatchRecommendationsRequest))

    async def _open(self, request: Request, message: Any) -> Response:
        # The header's token is the newer one: a URL stays as it was when the page made it.
        message.resume_token = request.headers.get(LAST_EVENT_ID) or message.resume_token
        request_id = request.state.request_id
        how = How(0.0, metadata_of(request.headers, request_id, message.request))
        if message.HasField("request"):
            name_request(message.request, request_id)

        def start() -> Any:
            return self._target.watch(WATCH_RECOMMENDATIONS, message, how)

        try:
            return await open_stream(WatchStream, start, request, self.places, self._pace, self._draining)
        except (Refused, grpc.RpcError) as error:
            status = error.status if isinstance(error, Refused) else status_of_call(error)
            if not (request.headers.get(LAST_EVENT_ID) and code_name(status) in _PASSING):
                raise
            return Response(_failed(status), media_type=MEDIA_TYPE)


def _failed(status: status_pb2.Status) -> bytes:
    return named("error", error_json(status), _retry(status))


def _retry(status: status_pb2.Status | None) -> bytes:
    """Not sooner than the status says."""
    least_ms = max(_RETRY_MS, (status and retry_after_ms(status)) or 0)
    return b"retry: %d\n" % round(least_ms * random.uniform(1, 2))
