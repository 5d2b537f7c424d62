"""The way to the server: one channel, and what the headers of a request say about its call."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio
import msgspec
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from recserv import v1 as pb
from recserv.client.options import SERVICE, ClientOptions, channel_options, channel_target, service_config
from recserv.errors import Violation
from recserv.gateway.answers import bad_fields
from recserv.gateway.methods import SERVER_STREAMS, Method
from recserv.gateway.retries import CODES, Retries
from recserv.types import PRIORITY_METADATA, Priority

REQUEST_ID = "x-request-id"
TIMEOUT = "x-request-timeout-ms"
PRIORITY = "x-recserv-priority"
_REQUEST_ID_MAX = 128
_PRIORITIES = {priority.name.lower(): priority for priority in Priority if priority}
_TIMEOUT_DIGITS_MAX = 12


class How(msgspec.Struct, frozen=True):
    """How a call is made."""

    timeout_s: float
    metadata: tuple[tuple[str, str], ...]


class Target:
    """The channel to the server. Made and used on one event loop."""

    def __init__(self, address: str):
        where = channel_target(address)
        self._channel = grpc.aio.insecure_channel(where, _channel_options(where))
        self._retries = Retries()
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)
        self._unary: dict[str, Any] = {}

    async def call(self, method: Method, request: Message, how: How) -> Message:
        """Raises grpc.RpcError. Tried again as `retries` says."""
        rpc: Any = self._unary.get(method.name)
        if rpc is None:
            rpc = self._unary[method.name] = self._channel.unary_unary(
                method.grpc_path, method.request.SerializeToString, method.response.FromString
            )

        async def attempt(timeout_s: float) -> Message:
            answer: Message = await rpc(request, timeout=timeout_s, metadata=how.metadata)
            return answer

        return await self._retries.call(attempt, how.timeout_s)

    def watch(self, method: Method, request: Message, how: How) -> Any:
        """The call, whose messages are still to be read; `how.timeout_s` 0: without a deadline."""
        rpc = self._channel.unary_stream(method.grpc_path, method.request.SerializeToString, method.response.FromString)
        return rpc(request, timeout=how.timeout_s or None, metadata=how.metadata)

    async def serves(self, timeout_s: float) -> bool:
        """Whether the server says of itself that it does."""
        try:
            answer = await self._health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=timeout_s)
        except grpc.RpcError:
            # Whatever it is, it does not serve.
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        await self._channel.close(None)


def _channel_options(where: str) -> list[tuple[str, Any]]:
    """As a client's, but that only streams are tried again by the channel."""
    options = dict(channel_options(ClientOptions(), where))
    config = service_config(ClientOptions())
    [methods] = config["methodConfig"]
    methods["name"] = [{"service": SERVICE, "method": name} for name in SERVER_STREAMS]
    methods["retryPolicy"]["retryableStatusCodes"] = [code.name for code in CODES]
    options["grpc.service_config"] = json.dumps(config)
    return list(options.items())


def request_id_of(given: str) -> str:
    """The caller's where it can go on in headers and logs, else a new one."""
    fine = 0 < len(given) <= _REQUEST_ID_MAX and given.isascii() and given.isprintable() and " " not in given
    return given if fine else uuid.uuid4().hex


def how_of(headers: Mapping[str, str], request_id: str, request: Message, timeout_ms: int, timeout_ms_max: int) -> How:
    """Raises Refused for headers that say nothing that can be done."""
    metadata = [(REQUEST_ID, request_id)]
    if (named := PRIORITY_METADATA.get(_priority(headers, request))) is not None:
        metadata.append(named)
    return How(_timeout_ms(headers, timeout_ms, timeout_ms_max) / 1000, tuple(metadata))


def _timeout_ms(headers: Mapping[str, str], default: int, longest: int) -> int:
    given = headers.get(TIMEOUT)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) <= _TIMEOUT_DIGITS_MAX and int(given)):
        raise bad_fields([Violation(TIMEOUT, "must be a whole number of milliseconds above 0", "MALFORMED")])
    return min(int(given), longest)


def _priority(headers: Mapping[str, str], request: Message) -> Priority:
    """The header's, else what the message says: the server decides before it reads that."""
    given = headers.get(PRIORITY)
    if given is None:
        number = getattr(request, "priority", 0)
        return Priority(number) if number in Priority.__members__.values() else Priority.UNSPECIFIED
    if given.lower() not in _PRIORITIES:
        raise bad_fields([Violation(PRIORITY, f"must be one of {', '.join(_PRIORITIES)}", "UNKNOWN_VALUE")])
    return _PRIORITIES[given.lower()]


def name_request(request: Message, request_id: str) -> None:
    """Where the message has a place for the request's id and says none."""
    if isinstance(request, pb.RecommendRequest):
        request.request_id = request.request_id or request_id
    elif isinstance(request, pb.BatchRecommendRequest):
        for entry in request.requests:
            entry.request_id = entry.request_id or request_id
