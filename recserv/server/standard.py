"""The standard services on the same port: grpc.health.v1.Health and server reflection.

Health says whether this process can answer; no dependency flips it, only the drain does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio  # type: ignore[attr-defined]
from grpc_reflection.v1alpha import reflection

from recserv.server.call import Context, parser
from recserv.server.status import code_of, status_of, trailing_metadata

HEALTH_SERVICE: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Health:
    """Serving from `serving` to `draining`. "" is the server as a whole."""

    def __init__(self, service_names: tuple[str, ...]):
        self._servicer = health_aio.HealthServicer()
        self._names = service_names

    async def serving(self) -> None:
        for name in ("", *self._names):
            await self._servicer.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def draining(self) -> None:
        await self._servicer.enter_graceful_shutdown()

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """The library's servicer behind our own parsing: malformed bytes are INVALID_ARGUMENT here too."""
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(
                _parsed(self._servicer.Check), response_serializer=health_pb2.HealthCheckResponse.SerializeToString
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                _parsed(self._servicer.Watch), response_serializer=health_pb2.HealthCheckResponse.SerializeToString
            ),
        }
        return grpc.method_handlers_generic_handler(HEALTH_SERVICE, methods)


def _parsed(method: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[bytes, Context], Awaitable[Any]]:
    parse = parser(health_pb2.HealthCheckRequest)

    async def handle(raw: bytes, context: Context) -> Any:
        try:
            request = parse(raw)
        except Exception as error:
            status = status_of(error)
            await context.abort(code_of(error), status.message, trailing_metadata(status))
        return await method(request, context)

    return handle


def add_reflection(server: grpc.aio.Server, service_names: tuple[str, ...]) -> None:
    reflection.enable_server_reflection((*service_names, HEALTH_SERVICE, reflection.SERVICE_NAME), server)
