"""Errors -> google.rpc.Status: a code, a message for people, and details for programs.

ErrorInfo (domain "recserv") always; BadRequest for what the caller can correct; RetryInfo where a retry is worth it.
gRPC rejects large trailing metadata at random, so a status stays under STATUS_BYTES_MAX whatever it says.
"""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from recserv.errors import (
    DeadlineTooNear,
    EventConflict,
    EventTooOld,
    IndexUnavailable,
    InvalidInput,
    NotFound,
    NotImplementedYet,
    Overloaded,
    RecservError,
    StoreUnavailable,
    TooLarge,
    Violation,
)

DOMAIN = "recserv"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
_DETAILS_KEY = "grpc-status-details-bin"
# Base64 makes 4 of every 3 bytes: 3 KiB are the 4 KiB that may be sent.
STATUS_BYTES_MAX = 3 * 1024
_MESSAGE_CHARACTERS_MAX = 200
_REQUEST_ID_CHARACTERS_MAX = 64
Trailing = tuple[tuple[str, str | bytes], ...]


class ServerDraining(RecservError):
    """The server is shutting down; another server, or this one later, will answer."""

    reason = "DRAINING"
    retry_after_ms = 200


class Interrupted(RecservError):
    """Something that the call was waiting for was cancelled. The caller cannot know whether an event was stored;
    sending it again with the same id is safe.
    """

    reason = "INTERRUPTED"
    retry_after_ms = 100


_CODES: dict[type, grpc.StatusCode] = {
    ServerDraining: grpc.StatusCode.UNAVAILABLE,
    Interrupted: grpc.StatusCode.UNAVAILABLE,
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    EventConflict: grpc.StatusCode.ALREADY_EXISTS,
    EventTooOld: grpc.StatusCode.OUT_OF_RANGE,
    NotFound: grpc.StatusCode.NOT_FOUND,
    NotImplementedYet: grpc.StatusCode.UNIMPLEMENTED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineTooNear: grpc.StatusCode.DEADLINE_EXCEEDED,
    StoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    IndexUnavailable: grpc.StatusCode.UNAVAILABLE,
}


def code_of(error: BaseException) -> grpc.StatusCode:
    """INTERNAL for errors that are not meant for callers."""
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), grpc.StatusCode.INTERNAL)


def status_of(error: BaseException, request_id: str = "") -> status_pb2.Status:
    code = code_of(error)
    number: int = code.value[0]
    if code is grpc.StatusCode.INTERNAL or not isinstance(error, RecservError):
        # Details of internal errors stay in the log, under the same request id.
        return _build(number, "internal error", _info("INTERNAL", request_id))
    details = [*_info(error.reason, request_id)]
    retry_after_ms = _retry_after_ms(error)
    if retry_after_ms is not None:
        delay = Duration()
        delay.FromMilliseconds(retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = _build(number, _shorten(str(error)), details)
    if isinstance(error, InvalidInput):
        _add_bad_request(status, error.violations)
    return status


def rejection(error: RecservError) -> tuple[grpc.StatusCode, str, Trailing]:
    """Code, text and trailing metadata of a call that is turned away."""
    status = status_of(error)
    return code_of(error), status.message, trailing_metadata(status, error)


def trailing_metadata(status: status_pb2.Status, error: BaseException) -> Trailing:
    """The status with its details. If these include RetryInfo, the delay is also sent as grpc-retry-pushback-ms, the
    only thing that gRPC's own retries read.
    """
    details = (_DETAILS_KEY, status.SerializeToString())
    retry_after_ms = _retry_after_ms(error)
    return (details,) if retry_after_ms is None else (details, (PUSHBACK_KEY, str(retry_after_ms)))


async def refuse(context: Any, code: grpc.StatusCode, text: str, trailing: Trailing) -> None:
    """Ends the call with a status only; whatever the handler returns afterwards is not sent.

    By abort, since a status that is merely set is sent after headers and an empty message, and gRPC clients never retry
    a call whose headers they have seen. The call keeps the exception that abort raises, whose traceback keeps the
    frames that hold the call: the request, with some 30 KB, would stay until a garbage collection. So the exception is
    caught here and cleared; gRPC raises it anew above the handler.
    """
    try:
        await context.abort(code, text, trailing)
    except grpc.aio.AbortError as aborted:
        aborted.__traceback__ = aborted.__context__ = None


async def refuse_error(context: Any, error: RecservError) -> None:
    """`refuse` with the status for this error."""
    status = status_of(error)
    await refuse(context, code_of(error), status.message, trailing_metadata(status, error))


def _retry_after_ms(error: BaseException) -> int | None:
    """None if a retry is pointless."""
    return getattr(error, "retry_after_ms", None)


def _info(reason: str, request_id: str) -> list[Message]:
    metadata = {"request_id": request_id[:_REQUEST_ID_CHARACTERS_MAX]} if request_id else {}
    return [error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)]


def _shorten(text: str) -> str:
    return text if len(text) <= _MESSAGE_CHARACTERS_MAX else text[: _MESSAGE_CHARACTERS_MAX - 3] + "..."


def _pack(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _build(code: int, message: str, details: list[Message]) -> status_pb2.Status:
    return status_pb2.Status(code=code, message=message, details=[_pack(detail) for detail in details])


def _add_bad_request(status: status_pb2.Status, violations: tuple[Violation, ...]) -> None:
    """As many violations as fit, in order."""
    bad = error_details_pb2.BadRequest()
    room = STATUS_BYTES_MAX - status.ByteSize() - 128
    for violation in violations:
        # The framing of a violation takes less than 16 bytes.
        room -= sum(len(text.encode()) for text in (violation.field, violation.description, violation.reason)) + 16
        if room < 0:
            break
        bad.field_violations.add(field=violation.field, description=violation.description, reason=violation.reason)
    status.details.append(_pack(bad))
