"""PromQL taken apart by a parser of its own: what an expression asks for, and whether it is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import promql_parser

_VARIABLES = {"$__rate_interval": "5m", "$instance": ".*", "$tenant": ".*"}
_LABEL = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")


def parsed(expression: str) -> Any:
    """Raises ValueError for what is no PromQL, once Grafana has put its variables in."""
    for name, value in _VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, f"a variable that nobody knows: {expression}"
    return promql_parser.parse(expression)


def selectors(expression: str) -> list[tuple[str, dict[str, str]]]:
    """The metrics that are asked for, each with the labels by which they are chosen."""
    return [
        (part.name, {one.name: one.value for one in part.matchers.matchers})
        for part in _parts(parsed(expression))
        if isinstance(part, promql_parser.VectorSelector)
    ]


def grouped_by(expression: str) -> set[str]:
    """Every label by which something is summed or matched."""
    found: set[str] = set()
    for part in _parts(parsed(expression)):
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            found |= set(part.modifier.labels)
        if isinstance(part, promql_parser.BinaryExpr) and part.modifier is not None and part.modifier.matching:
            found |= set(part.modifier.matching.labels)
    return found


def named_labels(text: str) -> set[str]:
    """Those that a legend or a summary fills in."""
    return set(_LABEL.findall(text))


def _parts(expression: Any) -> Iterator[Any]:
    yield expression
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        part = getattr(expression, name, None)
        if part is not None and not isinstance(part, str):
            yield from _parts(part)
    for part in getattr(expression, "args", None) or ():
        yield from _parts(part)
