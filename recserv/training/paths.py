"""Paths into objects and arrays: how a mapping names a value that is not a column of its own.

product.id                              a field of an object
items[].item_id                         of each element of an array: an event for each
event_params[key=ga_session_id].value   of the first element whose field `key` has that value
user_id + visit                         several values, those that are there joined by "/"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from recserv.errors import UsageError

JOIN = " + "


@dataclass(frozen=True)
class Step:
    """`each`: of every element of the array; `key` not empty: of the first one whose `key` is `value`."""

    name: str
    each: bool = False
    key: str = ""
    value: str = ""


@dataclass(frozen=True)
class ValuePath:
    text: str
    steps: tuple[Step, ...]

    @property
    def root(self) -> str:
        """The column or field that it leads into."""
        return self.steps[0].name

    @property
    def array(self) -> tuple[Step, ...]:
        """The steps to the array whose elements it means, empty for none."""
        return next((self.steps[: at + 1] for at, step in enumerate(self.steps) if step.each), ())

    def inside(self) -> tuple[Step, ...]:
        return self.steps[len(self.array) :]


def parse_path(text: str) -> ValuePath:
    """Raises UsageError."""
    steps = []
    for part in re.split(r"\.(?![^\[]*\])", text):
        found = re.fullmatch(r"([^\[\]]+)(?:\[(?:([^=\[\]]+)=([^\[\]]*))?\])?", part)
        if found is None:
            raise UsageError(f"column {text!r}: not a path such as items[].item_id")
        name, key, value = found[1], found[2] or "", found[3] or ""
        steps.append(Step(name, each=part.endswith("[]"), key=key, value=value))
    if sum(step.each for step in steps) > 1:
        raise UsageError(f"column {text!r}: at most one array of a path is taken apart")
    return ValuePath(text, tuple(steps))


def walk(value: Any, steps: tuple[Step, ...]) -> Any:
    """What the steps lead to from a value, or None. An array at the last step is returned whole."""
    for step in steps:
        if isinstance(value, list) and all(isinstance(pair, tuple) for pair in value):
            value = dict(value)  # An Arrow map.
        if not isinstance(value, dict):
            return None
        value = value.get(step.name)
        if step.key:
            elements = value if isinstance(value, list) else []
            fitting = (one for one in elements if isinstance(one, dict) and str(one.get(step.key)) == step.value)
            value = next(fitting, None)
    return value


def elements(value: Any, steps: tuple[Step, ...]) -> list[Any]:
    """Of the array at the end of the steps; none where there is no array."""
    found = walk(value, steps)
    return found if isinstance(found, list) else []
