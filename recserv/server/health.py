"""grpc.health.v1.Health: whether this process can answer. Only the drain changes it, never a dependency.

Our own, since grpc_health's servicer lacks List and holds a lock while it writes to a watcher, so that a single client
that does not read would block the drain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from recserv.errors import NotFound, NotImplementedYet, Overloaded, RecservError
from recserv.server.admission import ConcurrencyLimiter
from recserv.server.call import ServicerContext, parser
from recserv.server.status import refuse_error

HEALTH_SERVICE: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


class Health:
    """Reports SERVING from `begin` to `end`. "" is the server as a whole. `watchers` limits the open streams."""

    def __init__(self, service_names: tuple[str, ...], watchers: ConcurrencyLimiter):
        self.serving = False
        self._names = ("", *service_names)
        self._watchers = watchers
        self._changed = asyncio.Event()

    def begin(self) -> None:
        self._turn(True)

    def end(self) -> None:
        self._turn(False)

    def _turn(self, serving: bool) -> None:
        self.serving = serving
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Handlers of the service HEALTH_SERVICE, by method name."""
        one, all_of_them = HealthCheckResponse.SerializeToString, health_pb2.HealthListResponse.SerializeToString
        listed, unary = _parsed(self._list, health_pb2.HealthListRequest), grpc.unary_unary_rpc_method_handler
        return {
            "Check": unary(_parsed(self._check, HealthCheckRequest), response_serializer=one),
            "List": unary(listed, response_serializer=all_of_them),
            "Watch": grpc.unary_stream_rpc_method_handler(
                _parsed(self._watch, HealthCheckRequest), response_serializer=one
            ),
        }

    def _status(self) -> Any:
        return SERVING if self.serving else NOT_SERVING

    async def _check(self, request: Any, _: ServicerContext) -> HealthCheckResponse:
        if request.service not in self._names:
            raise NotFound("no service of that name is served here")
        return HealthCheckResponse(status=self._status())

    async def _list(self, _: Any, __: ServicerContext) -> health_pb2.HealthListResponse:
        answer = HealthCheckResponse(status=self._status())
        return health_pb2.HealthListResponse(statuses=dict.fromkeys(self._names, answer))

    async def _watch(self, request: Any, context: ServicerContext) -> None:
        """The current state, then every change. States that came and went while the client did not read are skipped.
        Beyond the limit raises NotImplementedYet: a gRPC client that checks health (gRFC A17) then assumes a server
        without health checks and keeps calling it, while any other status would stop its calls on that connection.
        """
        try:
            self._watchers.enter()
        except Overloaded as error:
            raise NotImplementedYet(f"health is not watched by more: {error}") from error
        try:
            told = None
            while True:
                changed = self._changed
                known = request.service in self._names
                status = self._status() if known else HealthCheckResponse.SERVICE_UNKNOWN
                if status != told:
                    await context.write(HealthCheckResponse(status=status))
                    told = status
                await changed.wait()
        finally:
            self._watchers.leave()


def _parsed(
    method: Callable[[Any, ServicerContext], Awaitable[Any]], message_type: type[Any]
) -> Callable[[bytes, ServicerContext], Awaitable[Any]]:
    parse = parser(message_type)

    async def handle(raw: bytes, context: ServicerContext) -> Any:
        try:
            return await method(parse(raw), context)
        except RecservError as error:
            return await refuse_error(context, error)

    return handle
