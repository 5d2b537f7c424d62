"""The way to the server: its channels, and what the headers of a request say about its call."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import uuid
from collections import defaultdict
from collections.abc import Coroutine, Mapping
from typing import Any

import grpc
import grpc.aio
import msgspec
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from starlette.requests import Request

from recserv import v1 as pb
from recserv.client.options import SERVICE, ClientOptions, channel_options, channel_target, service_config
from recserv.errors import Violation
from recserv.gateway.answers import Refused, bad_fields, refusal
from recserv.gateway.methods import SERVER_STREAMS, Method
from recserv.gateway.retries import CODES, Retries
from recserv.types import PRIORITY_METADATA, Priority

REQUEST_ID = "x-request-id"
TIMEOUT = "x-request-timeout-ms"
PRIORITY = "x-recserv-priority"
LAST_EVENT_ID = "last-event-id"
STREAMS_PER_CONNECTION = 500
"""A server admits 1,000 calls of one connection by default; the next one waits, unseen, for one of them to end."""
_REQUEST_ID_MAX = 128
_PRIORITIES = {priority.name.lower(): priority for priority in Priority if priority}
_TIMEOUT_DIGITS_MAX = 12
_GONE_HTTP_STATUS = 499


class How(msgspec.Struct, frozen=True):
    """How a call is made."""

    timeout_s: float
    metadata: tuple[tuple[str, str], ...]


class Target:
    """The channels to the server. Made and used on one event loop. `streams_max`: how many may be open at once."""

    def __init__(self, address: str, streams_max: int = STREAMS_PER_CONNECTION):
        where = channel_target(address)
        options = _channel_options(where)
        self._channel = grpc.aio.insecure_channel(where, options)
        # On separate connections, so that streams, which stay open, never hold up a call.
        apart = [*options, ("grpc.use_local_subchannel_pool", 1)]
        count = math.ceil(streams_max / STREAMS_PER_CONNECTION)
        self._streaming = [grpc.aio.insecure_channel(where, apart) for _ in range(count)]
        self._turns = itertools.cycle(self._streaming)
        self._retries: defaultdict[str, Retries] = defaultdict(Retries)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)
        self._unary: dict[str, Any] = {}

    async def call(self, method: Method, request: Message, how: How) -> Message:
        """Raises grpc.RpcError. Retried as `retries` says; cancelling it cancels the call."""
        rpc: Any = self._unary.get(method.name)
        if rpc is None:
            rpc = self._unary[method.name] = self._channel.unary_unary(
                method.grpc_path, method.request.SerializeToString, method.response.FromString
            )

        async def attempt(timeout_s: float) -> Message:
            answer: Message = await rpc(request, timeout=timeout_s, metadata=how.metadata)
            return answer

        return await self._retries[method.name].call(attempt, how.timeout_s)

    def watch(self, method: Method, request: Message, how: How) -> Any:
        """The call, whose messages are still to be read; `how.timeout_s` 0: without a deadline."""
        channel = next(self._turns)
        rpc = channel.unary_stream(method.grpc_path, method.request.SerializeToString, method.response.FromString)
        return rpc(request, timeout=how.timeout_s or None, metadata=how.metadata)

    async def serves(self, timeout_s: float) -> bool:
        """Whether the server reports that it serves."""
        try:
            answer = await self._health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=timeout_s)
        except grpc.RpcError:
            # Whatever the error, the server does not serve.
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        for channel in (self._channel, *self._streaming):
            await channel.close(None)


def until_gone(request: Request) -> asyncio.Future[None]:
    """Done once nobody waits for the answer any more. The body has been read, or does not count."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return asyncio.ensure_future(gone())


async def answer_of(calling: Coroutine[Any, Any, Message], request: Request) -> Message:
    """The answer of a unary call, cancelled when its caller goes. Raises grpc.RpcError; Refused if nobody waits."""
    call, gone = asyncio.ensure_future(calling), until_gone(request)
    gone.add_done_callback(lambda _: call.cancel())
    try:
        return await call
    except asyncio.CancelledError:
        if gone.done():
            raise nobody_waits() from None
        raise
    finally:
        gone.cancel()


def nobody_waits() -> Refused:
    """Read by nobody, since the caller is gone."""
    return refusal("CANCELLED", "CANCELLED", "gone", http_status=_GONE_HTTP_STATUS)


def _channel_options(where: str) -> list[tuple[str, Any]]:
    """Like a client's, except that the channel retries only streams."""
    options = dict(channel_options(ClientOptions(), where))
    config = service_config(ClientOptions())
    [methods] = config["methodConfig"]
    methods["name"] = [{"service": SERVICE, "method": name} for name in SERVER_STREAMS]
    methods["retryPolicy"]["retryableStatusCodes"] = [code.name for code in CODES]
    options["grpc.service_config"] = json.dumps(config)
    return list(options.items())


def request_id_of(given: str) -> str:
    """The caller's id if it is safe in headers and logs, else a new one."""
    fine = 0 < len(given) <= _REQUEST_ID_MAX and given.isascii() and given.isprintable() and " " not in given
    return given if fine else uuid.uuid4().hex


def how_of(headers: Mapping[str, str], request_id: str, request: Message, timeout_ms: int, timeout_ms_max: int) -> How:
    """Raises Refused for headers that are not valid."""
    metadata = metadata_of(headers, request_id, request)
    return How(_timeout_ms(headers, timeout_ms, timeout_ms_max) / 1000, metadata)


def metadata_of(headers: Mapping[str, str], request_id: str, request: Message) -> tuple[tuple[str, str], ...]:
    """Raises Refused for an unknown priority."""
    metadata = [(REQUEST_ID, request_id)]
    if (named := PRIORITY_METADATA.get(_priority(headers, request))) is not None:
        metadata.append(named)
    return tuple(metadata)


def _timeout_ms(headers: Mapping[str, str], default: int, longest: int) -> int:
    given = headers.get(TIMEOUT)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) <= _TIMEOUT_DIGITS_MAX and int(given)):
        raise bad_fields([Violation(TIMEOUT, "must be a whole number of milliseconds above 0", "MALFORMED")])
    return min(int(given), longest)


def _priority(headers: Mapping[str, str], request: Message) -> Priority:
    """The header's, else the message's: the server decides before it reads the message."""
    given = headers.get(PRIORITY)
    if given is None:
        number = getattr(request, "priority", 0)
        return Priority(number) if number in Priority.__members__.values() else Priority.UNSPECIFIED
    if given.lower() not in _PRIORITIES:
        raise bad_fields([Violation(PRIORITY, f"must be one of {', '.join(_PRIORITIES)}", "UNKNOWN_VALUE")])
    return _PRIORITIES[given.lower()]


def name_request(request: Message, request_id: str) -> None:
    """Sets the request's id where the message has a field for it and leaves it empty."""
    if isinstance(request, pb.RecommendRequest):
        request.request_id = request.request_id or request_id
    elif isinstance(request, pb.BatchRecommendRequest):
        for entry in request.requests:
            entry.request_id = entry.request_id or request_id
