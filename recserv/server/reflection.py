"""Server reflection, in both versions that clients ask for: v1 and v1alpha.

Their messages are the same but for the package, so one servicer answers both: that of grpc_reflection, which knows
v1alpha alone. It is given a pool that finds v1 too, and methods (protobuf's finds files by all names but theirs).
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
    """Describe these services and themselves. `streams` bounds the open ones."""
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
    """The pool of everything that is loaded, and what it does not find. KeyError for what nobody knows."""

    def __init__(self) -> None:
        self._loaded = descriptor_pool.Default()
        # Not put into the other one: whoever brings the v1 of its own some day must find its names free.
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
    """The file of v1alpha under the names of v1."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = "grpc/reflection/v1/reflection.proto", _V1
    for message in file.message_type:
        for field in message.field:
            # Set to nothing it would still be set.
            if field.type_name:
                field.type_name = field.type_name.replace(f".{_ALPHA}.", f".{_V1}.")
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(f".{_ALPHA}.", f".{_V1}.")
        method.output_type = method.output_type.replace(f".{_ALPHA}.", f".{_V1}.")
    return file
