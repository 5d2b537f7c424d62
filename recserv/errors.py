"""One exception tree. Foreign exceptions are mapped into it at the edge where they appear, once; the server maps it to
gRPC statuses, the command line to exit codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec


class Violation(msgspec.Struct, frozen=True):
    """One bad field of a request: `field` as a path in the message (`event.item_id`, `events[3].value`)."""

    field: str
    description: str
    reason: str
    """For programs: one of the few that the contract names, in UPPER_SNAKE_CASE."""


class RecservError(Exception):
    """Base of every error that recserv raises on purpose. Goes to another process whole, and can be copied."""

    reason = "INTERNAL"

    def __reduce__(self) -> tuple[Any, ...]:
        # By itself an exception is made anew by calling its class with the message, which is not what ours take.
        return _unpickled, (type(self), self.args), self.__dict__


def _unpickled(kind: type[RecservError], args: tuple[object, ...]) -> RecservError:
    return kind.__new__(kind, *args)


class InvalidInput(RecservError):
    """The request is wrong, whatever the state of the server."""

    reason = "INVALID_INPUT"

    def __init__(self, violations: Sequence[Violation]):
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in self.violations))


class EventConflict(RecservError):
    """The event id was used before with another body."""

    reason = "EVENT_ID_REUSED"


class EventTooOld(RecservError):
    """event_time is older than the retention of event ids, so a duplicate could not be recognised."""

    reason = "EVENT_TOO_OLD"


class NotFound(RecservError):
    reason = "NOT_FOUND"


class NotImplementedYet(RecservError):
    reason = "NOT_IMPLEMENTED"


class Overloaded(RecservError):
    """The request, or what it would occupy, is beyond a limit."""

    reason = "OVERLOADED"

    def __init__(self, message: str, retry_after_ms: int = 100):
        self.retry_after_ms = retry_after_ms
        super().__init__(message)


class TooLarge(RecservError):
    """The message is larger than any that is taken, and will be when it is sent again."""

    reason = "MESSAGE_TOO_LARGE"


class DeadlineTooNear(RecservError):
    reason = "DEADLINE"


class StoreUnavailable(RecservError):
    """The state store did not answer or could not make a write durable. Retrying later with the same ids is safe."""

    reason = "STORE_UNAVAILABLE"

    def __init__(self, message: str, retry_after_ms: int = 1000):
        self.retry_after_ms = retry_after_ms
        super().__init__(message)


class IndexUnavailable(RecservError):
    """No vector index is loaded, or its file is not what it should be."""

    reason = "INDEX_UNAVAILABLE"


class UsageError(RecservError):
    """What a person gave on the command line, in a file or in a setting is wrong: exit code 2."""

    reason = "USAGE"


class ConfigError(UsageError):
    """Every problem of the configuration at once."""

    reason = "CONFIG"

    def __init__(self, problems: Sequence[str]):
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DatasetError(UsageError):
    """A row of an event or catalogue file. `row` counts from 1, the header not counted; None: the file as a whole."""

    reason = "DATASET"

    def __init__(self, path: str, problem: str, *, row: int | None = None, column: str | None = None):
        self.path, self.problem, self.row, self.column = path, problem, row, column
        place = path if row is None else f"{path}, row {row}"
        super().__init__(f"{place}, column {column}: {problem}" if column else f"{place}: {problem}")


class ModelError(UsageError):
    """A model directory that is not whole, not ours or not of this version. `file` is relative to the directory."""

    reason = "MODEL"

    def __init__(self, file: str, problem: str):
        self.file, self.problem = file, problem
        super().__init__(f"{file}: {problem}")
