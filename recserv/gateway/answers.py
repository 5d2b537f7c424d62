"""What goes back: messages as proto3 JSON, and google.rpc.Status as Google's APIs write it in JSON.

    {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "...", "details": [{"@type": ..., ...}]}}

`code` is the HTTP status, by the table beside google.rpc.Code; Retry-After is RetryInfo in whole seconds, rounded up,
and the details keep it to the millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
import msgspec
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from starlette.responses import Response

from recserv.errors import Violation
from recserv.gateway.turns import in_turn
from recserv.v1 import DegradedReason

JSON = "application/json"
DOMAIN = "recserv"
TARGET_RETRY_MS = 1_000
HTTP_STATUS: dict[str, int] = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
_DEGRADED_PREFIX = "DEGRADED_REASON_"


class Refused(Exception):
    """The gateway's own refusal. `http_status` None: the one that follows from the status's code."""

    def __init__(self, status: status_pb2.Status, http_status: int | None = None):
        self.status, self.http_status = status, http_status
        super().__init__(status.message)


def refusal(
    code: str,
    reason: str,
    message: str,
    *,
    violations: Iterable[Violation] = (),
    retry_after_ms: int | None = None,
    http_status: int | None = None,
) -> Refused:
    """With the details that the server's own errors have: ErrorInfo, BadRequest, RetryInfo."""
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)]
    if retry_after_ms is not None:
        delay = Duration()
        delay.FromMilliseconds(retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if fields := [
        error_details_pb2.BadRequest.FieldViolation(field=one.field, description=one.description, reason=one.reason)
        for one in violations
    ]:
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return Refused(status, http_status)


def bad_fields(violations: list[Violation]) -> Refused:
    message = "; ".join(f"{one.field}: {one.description}" for one in violations)
    return refusal("INVALID_ARGUMENT", "INVALID_INPUT", message, violations=violations)


def status_of_call(error: grpc.RpcError) -> status_pb2.Status:
    """The status that a call ended with."""
    call: Any = error
    try:
        status = rpc_status.from_call(call)
    except ValueError:
        # The details contradict the status: the status alone still says what happened.
        status = None
    if status is not None:
        return status
    if call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        # gRPC's own messages name internal addresses, which are not for callers from outside. CANCELLED means a server
        # that stopped before it began the call: a call that its caller cancelled has nobody left to answer.
        message = "the recommendation server cannot be reached"
        return refusal("UNAVAILABLE", "TARGET_UNREACHABLE", message, retry_after_ms=TARGET_RETRY_MS).status
    return status_pb2.Status(code=call.code().value[0], message=call.details() or "")


def error_dict(status: status_pb2.Status, http_status: int | None = None) -> dict[str, Any]:
    name = code_name(status)
    return {
        "error": {
            "code": HTTP_STATUS[name] if http_status is None else http_status,
            "status": name,
            "message": status.message,
            "details": [told for detail in status.details if (told := _detail(detail)) is not None],
        }
    }


def code_name(status: status_pb2.Status) -> str:
    known = status.code in code_pb2.Code.values()
    return code_pb2.Code.Name(status.code) if known else "UNKNOWN"


def _detail(detail: Any) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json_format.MessageToDict(detail)
    except (TypeError, ValueError):
        # A type that this gateway does not know, or bytes that do not parse: JSON cannot express it.
        return None
    return told


def error_response(
    status: status_pb2.Status, http_status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    body = error_dict(status, http_status)
    more = dict(headers or {})
    if (retry_ms := retry_after_ms(status)) is not None:
        more["Retry-After"] = str(max(1, math.ceil(retry_ms / 1000)))
    return Response(msgspec.json.encode(body), body["error"]["code"], more, JSON)


def retry_after_ms(status: status_pb2.Status) -> int | None:
    """What RetryInfo says, rounded up; None where there is none."""
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
            delay_s: float = retry.retry_delay.ToTimedelta().total_seconds()
            return math.ceil(delay_s * 1000)
    return None


async def message_response(message: Message) -> Response:
    """200 with the message; a degraded answer says so in a header, too."""
    return Response(await json_of(message), 200, degraded_headers(message), JSON)


def degraded_headers(message: Message) -> dict[str, str]:
    reasons = getattr(message, "degraded_reasons", ())
    return {"X-Recserv-Degraded": ",".join(map(reason_name, reasons))} if reasons else {}


async def json_of(message: Message) -> bytes:
    return await in_turn(message.ByteSize(), lambda: message_json(message))


def message_json(message: Message) -> bytes:
    return msgspec.json.encode(json_format.MessageToDict(message))


def reason_name(number: int) -> str:
    known = number in DegradedReason.values()
    return DegradedReason.Name(number).removeprefix(_DEGRADED_PREFIX) if known else str(number)
