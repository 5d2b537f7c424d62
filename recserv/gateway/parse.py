"""What comes in: a body of proto3 JSON, or the parameters of a query -> one message, or Refused with what is wrong.

protobuf's parser names neither the place of a value nor more than one fault. So when it refuses a request, and only
then, the JSON is walked along the descriptor and each value tried by itself.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import cache
from typing import Any, NoReturn

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from recserv.errors import Violation
from recserv.gateway.answers import Refused, bad_fields, refusal
from recserv.gateway.turns import in_turn

FAULTS_MAX = 20
"""Faults reported for one request, at most."""
_SHOWN_MAX = 80
"""Characters shown of a name that the caller made up."""
_PLAIN_NAMES = {
    FieldDescriptor.CPPTYPE_STRING: "a string",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_INT32: "a whole number of 32 bits",
    FieldDescriptor.CPPTYPE_INT64: "a whole number of 64 bits",
}
_BOOLS = {"true": True, "false": False}


async def read_body(chunks: AsyncIterator[bytes], announced: str | None, bytes_max: int) -> bytes:
    """Counts bytes as they arrive: the length that a header announces may be missing or wrong."""
    if announced is not None and announced.isascii() and announced.isdigit() and int(announced[:20]) > bytes_max:
        raise _too_large(bytes_max)
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
    return bytes(body)


def _too_large(bytes_max: int) -> Refused:
    message = f"the body has more than {bytes_max} bytes"
    return refusal("INVALID_ARGUMENT", "BODY_TOO_LARGE", message, http_status=413)


async def message_of_json(body: bytes, kind: Any) -> Message:
    """Raises Refused. An empty body is a request without any field."""
    return await in_turn(len(body), lambda: _message_of_json(body, kind))


def _message_of_json(body: bytes, kind: Any) -> Message:
    return _message(_loaded(body) if body else {}, kind)


def message_of_query(pairs: Iterable[tuple[str, str]], kind: Any) -> Message:
    """For fields that are scalars, enums or lists of them; a list is given as a repeated parameter."""
    fields = query_fields(kind.DESCRIPTOR)
    given: dict[str, Any] = {}
    faults: list[Violation] = []
    for name, text in pairs:
        field = fields.get(name)
        if field is None:
            faults.append(_unknown(name[:_SHOWN_MAX], kind.DESCRIPTOR))
            continue
        value = _BOOLS.get(text, text) if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else text
        if field.is_repeated:
            given.setdefault(field.name, []).append(value)
        elif field.name in given:
            faults.append(Violation(name, "is given twice", "TOO_MANY"))
        else:
            given[field.name] = value
    if faults:
        raise bad_fields(faults[:FAULTS_MAX])
    return _message(given, kind)


@cache
def query_fields(descriptor: Any) -> dict[str, Any]:
    """Fields that a query can hold, by both of their names."""
    plain = [field for field in descriptor.fields if field.message_type is None]
    return {name: field for field in plain for name in (field.name, field.json_name)}


def _loaded(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_no_name_twice, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise _malformed(f"the body is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise _malformed(f"line {error.lineno} column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise _malformed("the body is nested too deeply") from error
    except ValueError as error:
        raise _malformed(str(error)[:200]) from error


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"{twice[:_SHOWN_MAX]!r} is given twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _malformed(message: str) -> Refused:
    return refusal("INVALID_ARGUMENT", "JSON_MALFORMED", f"the body is no JSON: {message}")


def _message(given: Any, kind: Any) -> Message:
    if not isinstance(given, dict):
        raise refusal("INVALID_ARGUMENT", "JSON_MALFORMED", f"the body must be an object, a {kind.DESCRIPTOR.name}")
    try:
        message: Message = json_format.ParseDict(given, kind())
    except json_format.ParseError as error:
        found = _faults(given, kind.DESCRIPTOR, "")
        if faults := [fault for fault, _ in zip(found, range(FAULTS_MAX), strict=False)]:
            raise bad_fields(faults) from error
        # Each value is fine by itself: too deep, or two members of a oneof.
        raise refusal("INVALID_ARGUMENT", "INVALID_INPUT", str(error)[:200]) from error
    return message


def _faults(given: Any, descriptor: Any, where: str) -> Iterator[Violation]:
    """What is wrong with an object that should be a message."""
    if not isinstance(given, dict):
        yield Violation(where, f"must be an object, a {descriptor.name}", "MALFORMED")
        return
    known = {name: field for field in descriptor.fields for name in (field.name, field.json_name)}
    for name, value in given.items():
        place = f"{where}.{name[:_SHOWN_MAX]}" if where else name[:_SHOWN_MAX]
        field = known.get(name)
        if field is None:
            yield _unknown(place, descriptor)
        elif value is not None:
            yield from _faults_of_field(value, field, descriptor, place)


def _faults_of_field(value: Any, field: Any, descriptor: Any, place: str) -> Iterator[Violation]:
    nested = field.message_type
    if nested is not None and nested.GetOptions().map_entry:
        if not _fits(value, field, descriptor):
            yield Violation(place, "must be an object of strings", "MALFORMED")
    elif field.is_repeated and not isinstance(value, list):
        yield Violation(place, "must be a list", "MALFORMED")
    else:
        entries = [(f"{place}[{n}]", entry) for n, entry in enumerate(value)] if field.is_repeated else [(place, value)]
        for at, entry in entries:
            if nested is not None and not nested.full_name.startswith("google."):
                yield from _faults(entry, nested, at)
            elif not _fits([entry] if field.is_repeated else entry, field, descriptor):
                yield _no_such_value(at, field)


def _fits(value: Any, field: Any, descriptor: Any) -> bool:
    try:
        json_format.ParseDict({field.name: value}, GetMessageClass(descriptor)())
    except json_format.ParseError:
        return False
    return True


def _unknown(place: str, descriptor: Any) -> Violation:
    return Violation(place, f"{descriptor.name} has no such field", "UNKNOWN_FIELD")


def _no_such_value(place: str, field: Any) -> Violation:
    if field.enum_type is not None:
        return Violation(place, f"must be one of {', '.join(_enum_names(field))}", "UNKNOWN_VALUE")
    if field.message_type is not None:
        return Violation(place, "must be a time such as 2026-01-31T12:00:00Z", "MALFORMED")
    return Violation(place, f"must be {_PLAIN_NAMES.get(field.cpp_type, 'something else')}", "MALFORMED")


def _enum_names(field: Any) -> list[str]:
    return [value.name for value in field.enum_type.values if value.number]
