"""YAML for people: block style, expressions as they are typed, everything else quoted where it could be misread."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = "str | int | Mapping[str, Value] | Sequence[Value]"

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*( [\w./()%,]+)*|\d+[smhd]", re.ASCII)
_READ_AS_ANOTHER_KIND = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def yaml_text(document: Mapping[str, Value]) -> str:
    """One document. Strings are ASCII; those of printable lines with quotes in them become literal blocks."""
    return "\n".join(_mapping(document)) + "\n"


def _mapping(mapping: Mapping[str, Value]) -> Iterator[str]:
    for key, value in mapping.items():
        yield from _entry(f"{_scalar(key)}:", value)


def _sequence(values: Sequence[Value]) -> Iterator[str]:
    for value in values:
        if isinstance(value, Mapping) and value:
            first, *rest = _mapping(value)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
        else:
            yield from _entry("-", value)


def _entry(head: str, value: Value) -> Iterator[str]:
    if isinstance(value, str | int):
        if isinstance(value, str) and _is_block(value):
            yield f"{head} |-"
            yield from (f"  {line}" for line in value.split("\n"))
        else:
            yield f"{head} {_scalar(value)}"
    elif not value:
        yield f"{head} {'{}' if isinstance(value, Mapping) else '[]'}"
    else:
        yield head
        lines = _mapping(value) if isinstance(value, Mapping) else _sequence(value)
        yield from (f"  {line}" for line in lines)


def _is_block(text: str) -> bool:
    lines = text.split("\n")
    bare = all(line.isprintable() and line.strip() for line in lines)
    return ('"' in text or len(lines) > 1) and bare and not text.startswith(" ")


def _scalar(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _READ_AS_ANOTHER_KIND:
        return value
    return json.dumps(value)
