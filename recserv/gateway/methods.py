"""The RPCs that have a path: every unary one of every service of the contract, as its descriptor lists them."""

from __future__ import annotations

from typing import Any

import msgspec
from google.protobuf.message_factory import GetMessageClass

from recserv.v1 import recommendation_service_pb2

RPC_PREFIX = "/rpc"
_FILES: tuple[Any, ...] = (recommendation_service_pb2.DESCRIPTOR,)


class Method(msgspec.Struct, frozen=True):
    """`grpc_path`: as gRPC calls it. `request`, `response`: classes of messages."""

    name: str
    grpc_path: str
    request: Any
    response: Any
    descriptor: Any

    @property
    def path(self) -> str:
        return RPC_PREFIX + self.grpc_path


def _method(descriptor: Any) -> Method:
    grpc_path = f"/{descriptor.containing_service.full_name}/{descriptor.name}"
    request, response = GetMessageClass(descriptor.input_type), GetMessageClass(descriptor.output_type)
    return Method(descriptor.name, grpc_path, request, response, descriptor)


_ALL = [
    _method(descriptor)
    for file in _FILES
    for service in file.services_by_name.values()
    for descriptor in service.methods
]
UNARY: dict[str, Method] = {
    method.name: method
    for method in _ALL
    if not (method.descriptor.client_streaming or method.descriptor.server_streaming)
}
"""By name."""
STREAMS = frozenset(method.name for method in _ALL) - UNARY.keys()
SERVER_STREAMS: tuple[str, ...] = tuple(
    method.name for method in _ALL if method.descriptor.server_streaming and not method.descriptor.client_streaming
)
WATCH_EXPLANATIONS = next(method for method in _ALL if method.name == "WatchExplanations")
WATCH_RECOMMENDATIONS = next(method for method in _ALL if method.name == "WatchRecommendations")
