"""The paths, and the application that they make: the table `Gateway.routes` is the place to read.

The path of an RPC takes its request as JSON and gives its response. The shop paths build the same request from what a
plain web shop has at hand: an event as the body, ids in the path, fields in the query.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router

from recserv import v1 as pb
from recserv.gateway.answers import JSON, Refused, error_response, message_response, refusal, status_of_call
from recserv.gateway.calls import (
    LAST_EVENT_ID,
    PRIORITY,
    REQUEST_ID,
    TIMEOUT,
    How,
    Target,
    answer_of,
    how_of,
    name_request,
    nobody_waits,
)
from recserv.gateway.card import CARD_PATH, ask_for_card, card_options, card_response
from recserv.gateway.front import App, Front, Places
from recserv.gateway.methods import UNARY, WATCH_EXPLANATIONS, Method
from recserv.gateway.openapi import SHOP_PREFIX, openapi_json
from recserv.gateway.page import COMPARE_PREFIX, page_routes
from recserv.gateway.parse import message_of_json, message_of_query, read_body
from recserv.gateway.settings import GatewaySettings
from recserv.gateway.sse import ExplanationStream, Pace, open_stream, stream_route
from recserv.gateway.status_page import status_routes
from recserv.gateway.tools import tools_route
from recserv.gateway.watch import Watch

_HEALTH_TIMEOUT_S = 1.0
_CODES = {404: ("NOT_FOUND", "PATH_UNKNOWN"), 405: ("UNIMPLEMENTED", "METHOD_NOT_ALLOWED")}

Endpoint = Callable[[Request], Awaitable[Response]]


class Gateway:
    """The application in front of one target."""

    def __init__(
        self,
        settings: GatewaySettings,
        target: Target,
        health_timeout_s: float = _HEALTH_TIMEOUT_S,
        compare: Target | None = None,
        first: Gateway | None = None,
    ):
        """`compare`: the target of a second server. `first`: the gateway beside this one, in the same process."""
        self._settings, self._target, self._health_timeout_s = settings, target, health_timeout_s
        self._compare = compare
        self._prefix = "" if first is None else COMPARE_PREFIX
        self.places, self.streams = Places(settings.max_in_flight), Places(settings.max_streams)
        self.draining = asyncio.Event()
        if first is not None:
            self.places, self.streams, self.draining = first.places, first.streams, first.draining
        self.watch = Watch(settings, target, self.draining, self._body)
        if first is not None:
            self.watch.places = first.watch.places

    def app(self) -> App:
        handlers: dict[Any, Any] = {Refused: _refused, grpc.RpcError: _call_failed, HTTPException: _no_route}
        handlers[Exception] = _failed
        routes = self.routes()
        inner = Starlette(routes=[*routes, *self._beside(routes)], exception_handlers=handlers)
        inner.router.redirect_slashes = False
        if not self._settings.allow_origin:
            return Front(inner)
        # Outermost, so that a page may read an error, too. Never with credentials: there are none.
        return CORSMiddleware(
            Front(inner),
            allow_origins=self._settings.allow_origin,
            allow_methods=["GET", "POST"],
            allow_headers=["content-type", LAST_EVENT_ID, REQUEST_ID, TIMEOUT, PRIORITY],
            expose_headers=[REQUEST_ID, "x-recserv-degraded", "retry-after"],
        )

    def _beside(self, routes: list[Route]) -> list[BaseRoute]:
        """The routes for people, and the same paths once more for the second server, as far as configured."""
        found: list[BaseRoute] = [*status_routes(self._settings.metrics, self._placed, self.draining)]
        if self._compare is not None:
            other = Gateway(self._settings, self._compare, self._health_timeout_s, first=self)
            found.append(Mount(COMPARE_PREFIX, Router(other.routes(), redirect_slashes=False)))
        if self._settings.page:
            found += page_routes(routes, images=self._settings.images, compares=self._compare is not None)
        return found

    def routes(self) -> list[Route]:
        rpcs = [Route(rpc.path, self._placed(partial(self._rpc, rpc)), methods=["POST"]) for rpc in UNARY.values()]
        return [
            *rpcs,
            Route(f"{SHOP_PREFIX}/events", self._placed(self._event), methods=["POST"]),
            Route(f"{SHOP_PREFIX}/recommendations", self._placed(self._recommendations), methods=["GET"]),
            Route(f"{SHOP_PREFIX}/context", self._placed(self._context), methods=["GET"]),
            # An id may hold slashes.
            Route(f"{SHOP_PREFIX}/context/{{user_id:path}}", self._placed(self._context), methods=["GET"]),
            stream_route(f"{SHOP_PREFIX}/explanations/{{token:path}}", self._explanations, "GET"),
            *self.watch.routes(),
            Route(CARD_PATH, self._placed(self._card), methods=["GET"]),
            tools_route(self._settings.public_url, self._prefix),
            Route("/openapi.json", _openapi(self._settings.public_url + self._prefix), methods=["GET"]),
            Route("/healthz", self._health, methods=["GET"]),
        ]

    def _placed(self, endpoint: Endpoint) -> Endpoint:
        async def within(request: Request) -> Response:
            with self.places:
                return await endpoint(request)

        return within

    async def _rpc(self, method: Method, request: Request) -> Response:
        return await self._answer(request, method, await self._body(request, method.request))

    async def _event(self, request: Request) -> Response:
        event: Any = await self._body(request, pb.Event)
        return await self._answer(request, UNARY["IngestEvent"], pb.IngestEventRequest(event=event))

    async def _recommendations(self, request: Request) -> Response:
        method = UNARY["Recommend"]
        message = message_of_query(request.query_params.multi_items(), method.request)
        return await self._answer(request, method, message)

    async def _card(self, request: Request) -> Response:
        options, pairs = card_options(request.query_params.multi_items())
        message: Any = message_of_query(pairs, pb.RecommendRequest)
        ask_for_card(message)
        return card_response(await self._called(request, UNARY["Recommend"], message), options)

    async def _context(self, request: Request) -> Response:
        method = UNARY["GetContext"]
        pairs = [*request.path_params.items(), *request.query_params.multi_items()]
        return await self._answer(request, method, message_of_query(pairs, method.request))

    async def _explanations(self, request: Request) -> Response:
        message = WATCH_EXPLANATIONS.request(explanation_token=request.path_params["token"])
        how = How(0.0, ((REQUEST_ID, request.state.request_id),))
        heartbeat_s = self._settings.heartbeat_ms / 1000
        start = partial(self._target.watch, WATCH_EXPLANATIONS, message, how)
        pace = Pace(heartbeat_s, heartbeat_s)
        return await open_stream(ExplanationStream, start, request, self.streams, pace, self.draining)

    async def _health(self, request: Request) -> Response:
        serves = await self._target.serves(self._health_timeout_s)
        return Response(
            b'{"status":"%s"}' % (b"SERVING" if serves else b"NOT_SERVING"), 200 if serves else 503, None, JSON
        )

    async def _body(self, request: Request, kind: Any) -> Message:
        """Raises Refused for a body that is not JSON, too large, or too slow to arrive."""
        _check_type(request)
        settings = self._settings
        try:
            async with asyncio.timeout(settings.timeout_ms_max / 1000):
                body = await read_body(request.stream(), request.headers.get("content-length"), settings.body_bytes_max)
        except TimeoutError:
            message = "the body did not come in time"
            raise refusal("DEADLINE_EXCEEDED", "BODY_TIMEOUT", message, http_status=408) from None
        except ClientDisconnect:
            raise nobody_waits() from None
        return await message_of_json(body, kind)

    async def _answer(self, request: Request, method: Method, message: Message) -> Response:
        began_s = time.perf_counter()
        answer = await self._called(request, method, message)
        took_ms = (time.perf_counter() - began_s) * 1000
        response = await message_response(answer)
        # The rest of the time that the caller measures is the gateway's, the network's and its own.
        response.headers["Server-Timing"] = f"server;dur={took_ms:.1f}"
        return response

    async def _called(self, request: Request, method: Method, message: Message) -> Any:
        settings, request_id = self._settings, request.state.request_id
        how = how_of(request.headers, request_id, message, settings.timeout_ms, settings.timeout_ms_max)
        name_request(message, request_id)
        return await answer_of(self._target.call(method, message, how), request)


def _openapi(server_url: str) -> Endpoint:
    # Without a URL: where the document came from.
    document = openapi_json(server_url or "/")

    async def answer(_: Request) -> Response:
        return Response(document, 200, None, JSON)

    return answer


def _check_type(request: Request) -> None:
    """JSON alone: browsers send a form or text from any web page without a preflight request."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    packed = request.headers.get("content-encoding", "identity").strip().lower()
    if given != JSON or packed != "identity":
        message = f"the body must be {JSON}, not packed"
        raise refusal("INVALID_ARGUMENT", "CONTENT_TYPE", message, http_status=415)


async def _refused(_: Request, error: Any) -> Response:
    return error_response(error.status, error.http_status)


async def _call_failed(_: Request, error: Any) -> Response:
    return error_response(status_of_call(error))


async def _no_route(_: Request, error: Any) -> Response:
    code, reason = _CODES.get(error.status_code, ("INVALID_ARGUMENT", "HTTP"))
    told = refusal(code, reason, str(error.detail))
    return error_response(told.status, error.status_code, error.headers)


async def _failed(_: Request, error: Exception) -> Response:
    """Does not say what failed: the log does."""
    return error_response(refusal("INTERNAL", "INTERNAL", "internal error").status)
