"""Server reflection, in both versions that clients ask for: v1 and v1alpha.

Their messages differ in the package only, so one servicer answers both: grpc_reflection's, which knows v1alpha only. It
is given a descriptor pool that also finds v1, and files by their methods' names, which protobuf's pool cannot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from recserv.errors import RecservError
from recserv.server.admission import ConcurrencyLimiter
from recserv.server.call import ServicerContext, parser
from recserv.server.status import refuse_error

_ALPHA, _V1 = "grpc.reflection.v1alpha", "grpc.reflection.v1"
REFLECTION_SERVICES = (f"{_V1}.ServerReflection", f"{_ALPHA}.ServerReflection")


def reflection_handlers(
    service_names: tuple[str, ...], streams: ConcurrencyLimiter
) -> tuple[grpc.GenericRpcHandler[Any, Any], ...]:
    """Handlers that describe these services and themselves. `streams` limits the open streams."""
    names = (*service_names, *REFLECTION_SERVICES)
    describe = reflection.aio.ReflectionServicer(names, _Pool()).ServerReflectionInfo  # type: ignore[attr-defined]
    parse = parser(reflection_pb2.ServerReflectionRequest)

    async def parsed(raws: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for raw in raws:
            yield parse(raw)

    async def handle(raws: AsyncIterator[bytes], context: ServicerContext) -> None:
        try:
            streams.enter()
            try:
                async for answer in describe(parsed(raws), context):
                    await context.write(answer)
            finally:
                streams.leave()
        except RecservError as error:
            await refuse_error(context, error)

    info = grpc.stream_stream_rpc_method_handler(
        handle, response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString
    )
    return tuple(
        grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": info}) for name in REFLECTION_SERVICES
    )


class _Pool:
    """The default pool, and what that does not find. Raises KeyError for unknown names."""

    def __init__(self) -> None:
        self._loaded = descriptor_pool.Default()
        # Not added to the default pool: a package that brings its own v1 must find the names free.
        self._v1 = descriptor_pool.DescriptorPool()
        self._v1.AddSerializedFile(_v1_file().SerializeToString())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loaded, name)

    def FindFileByName(self, name: str) -> Any:
        return self._first("FindFileByName", name)

    def FindFileContainingSymbol(self, name: str) -> Any:
        try:
            return self._first("FindFileContainingSymbol", name)
        except KeyError:
            return self._first("FindMethodByName", name).containing_service.file

    def _first(self, how: str, name: str) -> Any:
        try:
            return getattr(self._loaded, how)(name)
        except KeyError:
            return getattr(self._v1, how)(name)


def _v1_file() -> descriptor_pb2.FileDescriptorProto:
    """The v1alpha file under the names of v1."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = "grpc/reflection/v1/reflection.proto", _V1
    for message in file.message_type:
        for field in message.field:
            # Assigning an empty value would still set it.
            if field.type_name:
                field.type_name = field.type_name.replace(f".{_ALPHA}.", f".{_V1}.")
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(f".{_ALPHA}.", f".{_V1}.")
        method.output_type = method.output_type.replace(f".{_ALPHA}.", f".{_V1}.")
    return file
