"""The standard services on the same port: grpc.health.v1.Health and server reflection.

Health says whether this process can answer; no dependency flips it, only the drain does. Both are the libraries' own
servicers behind our parsing, so that malformed bytes are INVALID_ARGUMENT here too, and not UNKNOWN.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio  # type: ignore[attr-defined]
from grpc_reflection.v1alpha import reflection, reflection_pb2

from recserv.errors import RecservError
from recserv.server.call import Context, parser
from recserv.server.status import code_of, refuse, status_of, trailing_metadata

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

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """By method name, of the service HEALTH_SERVICE."""
        serialise = health_pb2.HealthCheckResponse.SerializeToString
        check, watch = (_parsed(method) for method in (self._servicer.Check, self._servicer.Watch))
        return {
            "Check": grpc.unary_unary_rpc_method_handler(check, response_serializer=serialise),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, response_serializer=serialise),
        }


def reflection_handler(service_names: tuple[str, ...]) -> grpc.GenericRpcHandler[Any, Any]:
    """Describes these services, health and itself."""
    names = (*service_names, HEALTH_SERVICE, reflection.SERVICE_NAME)
    describe = reflection.aio.ReflectionServicer(names).ServerReflectionInfo  # type: ignore[attr-defined]
    parse = parser(reflection_pb2.ServerReflectionRequest)

    async def parsed(raws: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for raw in raws:
            yield parse(raw)

    async def handle(raws: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        try:
            async for answer in describe(parsed(raws), context):
                yield answer
        except RecservError as error:
            await _refuse(context, error)

    info = grpc.stream_stream_rpc_method_handler(
        handle, response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString
    )
    return grpc.method_handlers_generic_handler(reflection.SERVICE_NAME, {"ServerReflectionInfo": info})


def _parsed(method: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[bytes, Context], Awaitable[Any]]:
    parse = parser(health_pb2.HealthCheckRequest)

    async def handle(raw: bytes, context: Context) -> Any:
        try:
            request = parse(raw)
        except RecservError as error:
            return await _refuse(context, error)
        return await method(request, context)

    return handle


async def _refuse(context: Context, error: RecservError) -> None:
    status = status_of(error)
    await refuse(context, code_of(error), status.message, trailing_metadata(status, error))
