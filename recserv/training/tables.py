"""A batch of a table as it is in the file, before its names are mapped.

reader -> TableBatch: columns or objects by the names of the file -> `mapped` -> columns by our names
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

EXACT_BELOW = 2.0**53
"""Whole numbers below it lose no digit in a float."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TableBatch:
    """`rows` numbers the rows from 1, the header not counted. `arrays` are Arrow columns by the file's name, or
    `objects` one mapping a row (JSON): never both. `done` of `total` of the file is read: rows or bytes.
    """

    path: str
    rows: Rows
    arrays: Mapping[str, Any] = field(default_factory=dict)
    objects: Sequence[dict[str, Any]] | None = None
    done: int = 0
    total: int = 0

    def first(self, count: int) -> TableBatch:
        """The first rows of it."""
        arrays = {name: array.slice(0, count) for name, array in self.arrays.items()}
        objects = None if self.objects is None else self.objects[:count]
        return TableBatch(self.path, self.rows[:count], arrays, objects, self.done, self.total)

    def column(self, name: str) -> tuple[Any, npt.NDArray[np.bool_] | None]:
        """An Arrow column, and where its values were lists or objects: None for nowhere."""
        if self.objects is None:
            return self.arrays[name], None
        return arrow_column([record.get(name) for record in self.objects])

    def values(self, name: str) -> list[Any]:
        """Python values: of columns that a path leads into."""
        if self.objects is not None:
            return [record.get(name) for record in self.objects]
        values: list[Any] = self.arrays[name].to_pylist()
        return values


def arrow_column(values: list[Any]) -> tuple[Any, npt.NDArray[np.bool_] | None]:
    """Text, numbers and booleans keep their type if all have the same; lists and objects become JSON text, and the mask
    says where.
    """
    structured = [isinstance(value, list | dict) for value in values]
    if not any(structured):
        try:
            return pa.array(values), None
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            pass  # Mixed types become text.
        return pa.array([_json_text(value) for value in values], pa.string()), None
    return pa.array([_json_text(value) for value in values], pa.string()), np.array(structured, bool)


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT_BELOW:
        return str(int(value))
    return msgspec.json.encode(value, enc_hook=str).decode()
