"""Maps the column names of a file to ours.

    Wanted: what is looked for and how a mapping says it is called -> FileColumns: where it stands in one file
    TableBatch -> MappedBatch: columns by our names; an array that a path takes apart gives a row for each element

Names match in any case, an exact match first. Of several names for a column the first counts that has a value in the
row. `fill_down` gives a row the value of the row before it in the same session or, in a catalogue, of the same group.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recserv.errors import DatasetError
from recserv.training.columns import as_text
from recserv.training.csv_dialect import ReadAs
from recserv.training.paths import JOIN, Step, ValuePath, elements, parse_path, walk
from recserv.training.tables import Rows, TableBatch, arrow_column

_NAMES_SHOWN = 20


class MissingColumn(DatasetError):
    """`has`: the names of the file; `ours`: what we call the column."""

    def __init__(self, path: str, has: list[str], column: str, ours: str):
        self.has, self.ours = has, ours
        super().__init__(path, f"the file has no such column; it has: {_some(has)}", column=column)

    def with_hint(self, hint: str) -> DatasetError:
        return DatasetError(self.path, self.problem + hint, column=self.column)


@dataclass(frozen=True)
class MappedBatch:
    """`rows` are the numbers of the file's rows, the same for all that come from one. `sources` is what the file calls
    our columns. `structured`: where a value of a column was a list or an object.
    """

    path: str
    rows: Rows
    columns: dict[str, Any]
    sources: Mapping[str, str]
    done: int
    total: int
    structured: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    exploded: bool = False


@dataclass(frozen=True)
class Wanted:
    """Our column names, those of them that a file must have, and what a file may call each, the best first; a column
    without an entry has our name, one with an empty entry is not read. `told`: columns that somebody said by hand where
    to find, so a file without them is refused. `fallback`: what it may be called in a file that has none of those.
    """

    names: tuple[str, ...]
    required: tuple[str, ...]
    mapping: Mapping[str, tuple[str, ...]]
    told: frozenset[str] = frozenset()
    fallback: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fill_down: tuple[str, ...] = ()
    read_as: ReadAs = field(default_factory=ReadAs)

    def sources_of(self, name: str) -> tuple[str, ...]:
        return self.mapping.get(name, (name,))

    def known(self) -> set[str]:
        """What columns may be called, in lower case."""
        return {source.lower() for name in self.names for source in self.sources_of(name)}

    def of_file(self, path: str) -> FileColumns:
        return FileColumns(path, self)


@dataclass(frozen=True)
class _Value:
    """One way to find a column's values: a column of the file, or paths that are joined."""

    source: str
    flat: str = ""
    parts: tuple[ValuePath, ...] = ()

    @property
    def roots(self) -> list[str]:
        return [self.flat] if self.flat else [part.root for part in self.parts]


class FileColumns:
    """The columns of one file: chosen when its names are known, then applied to batch after batch."""

    def __init__(self, path: str, wanted: Wanted):
        self._path, self._wanted = path, wanted
        self.has: list[str] = []
        self._values: dict[str, list[_Value]] = {}
        self._before: dict[str, tuple[Any, Any]] = {}

    def choose(self, available: list[str]) -> list[str]:
        """The file's columns that are needed. Raises DatasetError for one that is missing or ambiguous."""
        self.has = available
        self._values = {}
        for name in self._wanted.names:
            found = self._found(self._wanted.sources_of(name)) or self._found(self._wanted.fallback.get(name, ()))
            if found:
                self._values[name] = list(dict.fromkeys(found))
            elif name in self._wanted.required or name in self._wanted.told:
                source = (*self._wanted.sources_of(name), name)[0]
                raise MissingColumn(self._path, available, source, name)
        return list(dict.fromkeys(root for values in self._values.values() for one in values for root in one.roots))

    def unused(self) -> list[str]:
        used = {root for values in self._values.values() for one in values for root in one.roots}
        return [name for name in self.has if name and name not in used]

    def sources(self) -> dict[str, str]:
        return {name: values[0].source for name, values in self._values.items()}

    def _found(self, sources: tuple[str, ...]) -> list[_Value]:
        return [value for source in sources if (value := self._find(source)) is not None]

    def _find(self, source: str) -> _Value | None:
        flat = self._match(source)
        if flat:
            return _Value(flat, flat=flat)
        if not any(sign in source for sign in (".", "[", JOIN)):
            return None
        parts = []
        for text in source.split(JOIN):
            path = parse_path(text.strip())
            root = self._match(path.root)
            if root:
                parts.append(ValuePath(path.text, (_renamed(path.steps[0], root), *path.steps[1:])))
        return _Value(source, parts=tuple(parts)) if parts else None

    def _match(self, source: str) -> str:
        """The file's name for it, "" for none. Raises DatasetError for a name that the file has twice."""
        fitting = [name for name in self.has if name == source]
        if not fitting:
            wanted = source.strip().casefold()
            fitting = [name for name in self.has if name.strip().casefold() == wanted]
        if len(fitting) > 1:
            raise DatasetError(self._path, "the file has this column twice", column=fitting[0])
        return fitting[0] if fitting else ""

    def apply(self, table: TableBatch) -> MappedBatch:
        arrays = {part.array for values in self._values.values() for one in values for part in one.parts} - {()}
        if len(arrays) > 1:
            raise DatasetError(self._path, "the mapping takes two arrays apart; one is possible")
        array = next(iter(arrays), ())
        repeat, members = _taken_apart(table, array)
        columns: dict[str, Any] = {}
        structured = {}
        for name, values in self._values.items():
            column, mask = self._column(table, values, repeat, members, array)
            columns[name] = column
            if mask is not None:
                structured[name] = mask
        rows = table.rows if repeat is None else table.rows[repeat]
        if self._wanted.fill_down:
            self._fill_down(columns)
        return MappedBatch(
            self._path, rows, columns, self.sources(), table.done, table.total, structured, exploded=bool(array)
        )

    def _column(
        self,
        table: TableBatch,
        values: list[_Value],
        repeat: Rows | None,
        members: list[Any],
        array: tuple[Step, ...],
    ) -> tuple[Any, npt.NDArray[np.bool_] | None]:
        if len(values) == 1 and values[0].flat:
            column, mask = table.column(values[0].flat)
            if repeat is None:
                return column, mask
            return column.take(pa.array(repeat)), None if mask is None else mask[repeat]
        if table.objects is None and all(value.flat for value in values):
            texts = [as_text(table.arrays[value.flat])[0].cast(pa.string()) for value in values]
            column = pc.coalesce(
                *[pc.if_else(pc.equal(pc.utf8_trim_whitespace(text), ""), None, text) for text in texts]
            )
            return (column if repeat is None else column.take(pa.array(repeat))), None
        size = len(table.rows) if repeat is None else len(repeat)
        at = list(range(size)) if repeat is None else repeat.tolist()
        out: list[Any] = [None] * size
        for value in reversed(values):
            for row, found in enumerate(_values(table, value, at, members, array)):
                if found is not None and found != "":
                    out[row] = found
        return arrow_column(out)

    def _fill_down(self, columns: dict[str, Any]) -> None:
        session = columns.get("session_id", columns.get("group_id"))
        if session is None or not len(session):
            return
        sessions = as_text(session)[0]
        for name in self._wanted.fill_down:
            if name not in columns:
                continue
            text = as_text(columns[name])[0]
            before = self._before.get(name, (None, None))
            keys = pa.concat_arrays([pa.array([before[0]], pa.string()), sessions.cast(pa.string())])
            values = pa.concat_arrays([pa.array([before[1]], pa.string()), text.cast(pa.string())])
            has = pc.fill_null(pc.not_equal(values, ""), False).to_numpy(zero_copy_only=False)
            last = np.maximum.accumulate(np.where(has, np.arange(len(has)), 0))
            same = pc.fill_null(pc.equal(keys, keys.take(pa.array(last))), False)
            filled = pc.if_else(same, values.take(pa.array(last)), values)
            columns[name] = filled.slice(1)
            self._before[name] = (keys[-1].as_py(), filled[-1].as_py())


def _renamed(step: Step, name: str) -> Step:
    return Step(name, step.each, step.key, step.value)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN])


def _taken_apart(table: TableBatch, array: tuple[Step, ...]) -> tuple[Rows | None, list[Any]]:
    """For each new row the place of the row it comes from, and its element of the array. A row without elements stays
    one, without an element.
    """
    if not array:
        return None, []
    places, members = [], []
    for place, value in enumerate(table.values(array[0].name)):
        found = elements({array[0].name: value}, array) or [None]
        places += [place] * len(found)
        members += found
    return np.array(places, np.int64), members


def _values(
    table: TableBatch, value: _Value, at: list[int], members: list[Any], array: tuple[Step, ...]
) -> Collection[Any]:
    """Values of one way to find a column, one for each new row; `at`: which row of the table each comes from."""
    if value.flat:
        flat = table.values(value.flat)
        return [flat[place] for place in at]
    joined: list[list[Any]] = []
    for part in value.parts:
        if part.array:
            joined.append([walk(member, part.inside()) for member in members])
        else:
            roots = table.values(part.root)
            found = [walk({part.root: root}, part.steps) for root in roots]
            joined.append([found[place] for place in at])
    if len(joined) == 1:
        return joined[0]
    rows = zip(*joined, strict=True)
    return ["/".join(str(one) for one in row if one is not None and one != "") for row in rows]
