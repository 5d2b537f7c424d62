"""What a call can end with besides an answer: a gRPC status with its details -> one exception of recserv's tree.

    status code + google.rpc.Status details -> CallFailed, and the error of recserv.errors that the server raised

`except CallFailed` catches everything; `except Overloaded` (of recserv.errors) what an overloaded server answered.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from recserv.errors import (
    DeadlineTooNear,
    EventConflict,
    EventTooOld,
    InvalidInput,
    NotFound,
    NotImplementedYet,
    Overloaded,
    RecservError,
    StoreUnavailable,
    Violation,
)

PUSHBACK_KEY = "grpc-retry-pushback-ms"
_NAMES: dict[int, str] = {code.value[0]: code.name for code in grpc.StatusCode}


class CallFailed(RecservError):
    """The server answered with an error, or did not answer. `code` is the gRPC status's name, such as NOT_FOUND;
    `server_reason` the stable reason of its ErrorInfo, empty if it came from no recserv; `retry_after_s` is None where
    the server did not say that a retry is worth it.
    """

    reason = "CALL_FAILED"

    def __init__(
        self,
        code: str,
        message: str,
        violations: tuple[Violation, ...] = (),
        retry_after_s: float | None = None,
        server_reason: str = "",
    ):
        self.code, self.message, self.violations, self.retry_after_s = code, message, violations, retry_after_s
        self.retry_after_ms = round((retry_after_s or 0.0) * 1000)
        self.server_reason = server_reason
        super(RecservError, self).__init__(f"{code}: {message}")


class RequestInvalid(CallFailed, InvalidInput):
    """INVALID_ARGUMENT; `violations` names each field."""


class EventIdReused(CallFailed, EventConflict):
    """ALREADY_EXISTS: the event id was used before with another body."""


class EventOutdated(CallFailed, EventTooOld):
    """OUT_OF_RANGE: event_time is older than event ids are remembered."""


class NothingThere(CallFailed, NotFound):
    """NOT_FOUND: a token that is unknown or has expired."""


class NotBuilt(CallFailed, NotImplementedYet):
    """UNIMPLEMENTED."""


class TurnedAway(CallFailed, Overloaded):
    """RESOURCE_EXHAUSTED: the server is too busy, or the message too large."""


class TooLate(CallFailed, DeadlineTooNear):
    """DEADLINE_EXCEEDED, whether the server said so or did not answer in time."""


class StoreDown(CallFailed, StoreUnavailable):
    """UNAVAILABLE because the server's store is: sending the same event again is safe."""


_BY_CODE: dict[str, type[CallFailed]] = {
    "INVALID_ARGUMENT": RequestInvalid,
    "ALREADY_EXISTS": EventIdReused,
    "OUT_OF_RANGE": EventOutdated,
    "NOT_FOUND": NothingThere,
    "UNIMPLEMENTED": NotBuilt,
    "RESOURCE_EXHAUSTED": TurnedAway,
    "DEADLINE_EXCEEDED": TooLate,
}


def failure_of_call(error: Any) -> CallFailed:
    """Of the grpc.Call or AioRpcError that a stub raised."""
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        # The details contradict the status: the status alone still says what happened.
        status = None
    pushback_s = _pushback_s(error)
    return _failure(error.code().name, error.details() or "", status, pushback_s)


def failure_of_status(status: status_pb2.Status) -> CallFailed:
    """Of one entry of a batch or a stream."""
    return _failure(_NAMES.get(status.code, "UNKNOWN"), status.message, status, None)


def _failure(code: str, message: str, status: status_pb2.Status | None, retry_after_s: float | None) -> CallFailed:
    violations: list[Violation] = []
    server_reason = ""
    for detail in status.details if status is not None else ():
        bad_request, retry, info = (
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
            error_details_pb2.ErrorInfo(),
        )
        if detail.Unpack(bad_request):
            violations += [
                Violation(entry.field, entry.description, entry.reason) for entry in bad_request.field_violations
            ]
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
        elif detail.Unpack(info):
            server_reason = info.reason
    kind = StoreDown if server_reason == StoreUnavailable.reason else _BY_CODE.get(code, CallFailed)
    return kind(code, message, tuple(violations), retry_after_s, server_reason)


def _pushback_s(error: Any) -> float | None:
    """What the server asked gRPC's own retries to wait; None if it said nothing, or not to try again."""
    for key, value in error.trailing_metadata() or ():
        if key == PUSHBACK_KEY and isinstance(value, str) and value.isascii() and value.isdigit():
            return int(value) / 1000
    return None
