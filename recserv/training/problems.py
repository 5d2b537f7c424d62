"""Bad rows: the first one ends the build with file, row and column named, or all are counted and reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from recserv.errors import DatasetError

Progress = Callable[[str, int, int], None]
"""Called with the stage, how much is done and how much there is; the unit is the stage's own. `total` 0: unknown."""


def no_progress(_stage: str, _done: int, _total: int) -> None:
    return


class SkippedRows(msgspec.Struct, frozen=True):
    """Rows of one file left out for one reason; `first_row` counts from 1, the header not counted, and `example` is
    its value.
    """

    path: str
    column: str
    problem: str
    first_row: int
    count: int
    example: str = ""


class NotesOfValues(Protocol):
    """Who is told of values that were left out."""

    def left_out(self, new: SkippedRows) -> None: ...


class BadRows:
    """Collects what is wrong with rows. With `skip` false the first problem raises DatasetError."""

    def __init__(self, skip: bool):
        self.skip = skip
        self._found: dict[tuple[str, str, str], SkippedRows] = {}

    @property
    def total(self) -> int:
        return sum(found.count for found in self._found.values())

    def report(self) -> tuple[SkippedRows, ...]:
        return tuple(self._found.values())

    def add(self, new: SkippedRows) -> None:
        if not self.skip:
            problem = f"{new.problem}: {new.example}" if new.example else new.problem
            raise DatasetError(new.path, problem, row=new.first_row, column=new.column or None)
        key = (new.path, new.column, new.problem)
        old = self._found.get(key)
        self._found[key] = msgspec.structs.replace(old, count=old.count + new.count) if old else new


class RowChecks:
    """The verdicts on one batch. They are collected first, so that the first bad row of the batch is reported, in
    whichever order the columns are checked.
    """

    def __init__(self, path: str, rows: npt.NDArray[np.int64], sources: Mapping[str, str]):
        self._path, self._rows, self._sources = path, rows, sources
        self._verdicts: list[SkippedRows] = []
        self.good = np.ones(len(rows), bool)

    def bad(self, column: str, problem: str, mask: npt.NDArray[np.bool_], values: Any = None) -> None:
        """Rows that are bad for one reason; a row already found bad is not counted twice. `values`: the column,
        for an example. The report names the column as the file does.
        """
        fresh = np.flatnonzero(mask & self.good)
        if len(fresh) == 0:
            return
        example = "" if values is None else _shown(values[int(fresh[0])])
        row = int(self._rows[fresh[0]])
        self._verdicts.append(
            SkippedRows(self._path, self._sources.get(column, column), problem, row, len(fresh), example)
        )
        self.good[fresh] = False

    def drop(self, mask: npt.NDArray[np.bool_]) -> int:
        """Rows that are left out without being bad; how many."""
        fresh = mask & self.good
        self.good = self.good & ~fresh
        return int(np.count_nonzero(fresh))

    def left_out(
        self, notes: NotesOfValues, column: str, problem: str, mask: npt.NDArray[np.bool_], values: Any
    ) -> npt.NDArray[np.bool_]:
        """Optional values that cannot be read, of rows that stay without them. Returns `mask`."""
        found = np.flatnonzero(mask & self.good)
        if len(found):
            row, name = int(self._rows[found[0]]), self._sources.get(column, column)
            example = _shown(values[int(found[0])])
            notes.left_out(SkippedRows(self._path, name, problem, row, len(found), example))
        return mask

    def of_good(self) -> RowChecks:
        """For a later look at the rows that are good."""
        return RowChecks(self._path, self._rows[self.good], self._sources)

    def settle(self, problems: BadRows) -> npt.NDArray[np.bool_]:
        """Hands the verdicts on and returns which rows are good: bool [rows]."""
        for verdict in sorted(self._verdicts, key=lambda verdict: verdict.first_row):
            problems.add(verdict)
        return self.good


def _shown(value: Any) -> str:
    value = value.as_py() if hasattr(value, "as_py") else value
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = str(value)
    return repr(text if len(text) <= 40 else text[:37] + "...")
