"""Rows of event and catalogue files as Arrow batches, whatever the format: one reader a format, chosen by the name.

    file -> reader -> RawBatch: the wanted columns under our names, of whatever type the file has, and their row numbers

Parquet, CSV (`.csv`, `.tsv`), JSON lines (`.jsonl`, `.ndjson`, `.json`) and session lines (`.txt`: one session a line,
its item ids oldest first); all but Parquet also with `.gz` behind. Batches are bounded, files are streamed.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from recserv.errors import DatasetError
from recserv.training.problems import BadRows, SkippedRows

BATCH_ROWS = 1 << 16
_CSV_BLOCK_BYTES = 4 << 20
_LINE_BYTES_MAX = 8 << 20
_LINES_A_BATCH = 1 << 15
_SESSION_LINES_A_BATCH = 1 << 13

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RawBatch:
    """`rows` numbers the rows from 1, the header not counted. `done` of `total` of the file is read: rows or bytes.
    `sources` is what the file calls our columns.
    """

    path: str
    rows: Rows
    columns: dict[str, Any]
    sources: Mapping[str, str]
    done: int
    total: int


@dataclass(frozen=True)
class Wanted:
    """Our column names, those of them that a file must have, and what a file calls them where it differs. With
    `own_names` a file may also call a required column what we call it.
    """

    names: tuple[str, ...]
    required: tuple[str, ...]
    mapping: Mapping[str, str]
    own_names: bool = False

    def sources(self, path: str, available: list[str]) -> dict[str, str]:
        """Name in the file by our name, for the columns that the file has. Raises DatasetError."""
        found = {}
        for name in self.names:
            source = self.mapping.get(name, name)
            if self.own_names and source not in available and name in self.required and name in available:
                source = name
            if available.count(source) > 1:
                raise DatasetError(path, "the file has this column twice", column=source)
            if source in available:
                found[name] = source
            elif name in self.required or name in self.mapping:
                has = ", ".join(available[:20])
                raise DatasetError(path, f"the file has no such column; it has: {has}", column=source)
        return found


def read_batches(path: str, wanted: Wanted, problems: BadRows) -> Iterator[RawBatch]:
    """Streams a file. Raises DatasetError for a file that is missing, empty, of an unknown kind or unreadable."""
    if not Path(path).is_file():
        raise DatasetError(path, "no such file")
    if Path(path).stat().st_size == 0:
        raise DatasetError(path, "the file is empty")
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes or [""])[-1]
    reader = _READERS.get(kind)
    if reader is None or (kind in (".parquet", ".pq") and suffixes[-1] == ".gz"):
        raise DatasetError(path, f"unknown kind of file; known are {', '.join(sorted(_READERS))}")
    try:
        yield from reader(path, wanted, problems)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise DatasetError(path, f"cannot be read: {_first_line(error)}") from error


def _read_parquet(path: str, wanted: Wanted, _problems: BadRows) -> Iterator[RawBatch]:
    with pq.ParquetFile(path) as file:
        sources = wanted.sources(path, file.schema_arrow.names)
        total, done = file.metadata.num_rows, 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(dict.fromkeys(sources.values()))):
            rows = np.arange(done + 1, done + 1 + batch.num_rows)
            done += batch.num_rows
            columns = {name: batch.column(source) for name, source in sources.items()}
            yield RawBatch(path, rows, columns, sources, done, total)


def _read_csv(path: str, wanted: Wanted, problems: BadRows) -> Iterator[RawBatch]:
    names, delimiter = _csv_header(path)
    sources = wanted.sources(path, names)
    broken: set[int] = set()
    pending: list[SkippedRows] = []

    def on_broken_row(row: Any) -> str:
        # Arrow swallows what a handler raises, so problems are only noted here. It counts the header as a row.
        problem = f"{row.actual_columns} values where the header names {row.expected_columns}"
        broken.add(row.number - 1)
        pending.append(SkippedRows(path, "", problem, row.number - 1, 1))
        return "skip"

    used = list(dict.fromkeys(sources.values()))
    with _Counted(path) as counted:
        stream = pa.input_stream(pa.PythonFile(counted, mode="r"), compression="gzip" if counted.gzipped else None)
        reader = pa_csv.open_csv(
            stream,
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_broken_row
            ),
            # Bytes as they are: text, numbers and times are read by `columns`, which can name the row that is bad.
            convert_options=pa_csv.ConvertOptions(
                include_columns=used, column_types={name: pa.binary() for name in used}, check_utf8=False
            ),
        )
        next_row = 1
        for batch in _until_end(reader):
            for problem in pending:
                problems.add(problem)
            pending.clear()
            if batch is None:
                break
            rows = _number_rows(next_row, batch.num_rows, broken)
            next_row = int(rows[-1]) + 1 if len(rows) else next_row
            columns = {name: batch.column(batch.schema.get_field_index(source)) for name, source in sources.items()}
            yield RawBatch(path, rows, columns, sources, counted.done, counted.total)


def _until_end(reader: Any) -> Iterator[Any]:
    """The batches, then None."""
    yield from reader
    yield None


def _number_rows(first: int, count: int, broken: Collection[int]) -> Rows:
    """The numbers of `count` rows from `first` on, leaving out those of the broken rows."""
    rows = np.arange(first, first + count + len(broken))
    if broken:
        rows = rows[~np.isin(rows, np.fromiter(broken, np.int64, len(broken)))]
    return rows[:count]


def _csv_header(path: str) -> tuple[list[str], str]:
    with _Counted(path) as counted:
        line = counted.open_lines().readline(_LINE_BYTES_MAX)
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(path, "the header is not UTF-8") from error
    delimiter = max(",\t;|", key=text.count)
    names = next(csv.reader(io.StringIO(text), delimiter=delimiter), [])
    if len(set(names)) != len(names):
        raise DatasetError(path, "the header names a column twice")
    return names, delimiter


def _read_jsonl(path: str, wanted: Wanted, problems: BadRows) -> Iterator[RawBatch]:
    found: set[str] = set()
    first = True
    for numbers, lines, done, total in _lines(path, _LINES_A_BATCH):
        records, rows = [], []
        for number, line in zip(numbers, lines, strict=True):
            record = _record(line)
            if isinstance(record, dict):
                records.append(record)
                rows.append(number)
                found.update(record)
            else:
                problems.add(SkippedRows(path, "", record, number, 1))
        if not records:
            continue
        sources = wanted.sources(path, sorted(found)) if first else {n: wanted.mapping.get(n, n) for n in wanted.names}
        first = False
        columns = {
            name: _json_column([record.get(source) for record in records])
            for name, source in sources.items()
            if source in found
        }
        yield RawBatch(path, np.array(rows, np.int64), columns, sources, done, total)


def _record(line: bytes) -> dict[str, Any] | str:
    """The object in a line, or what is wrong with the line."""
    try:
        record = msgspec.json.decode(line)
    except UnicodeDecodeError:
        return "not UTF-8"
    except (msgspec.DecodeError, RecursionError) as error:
        return "not UTF-8" if "UTF-8" in str(error) or "utf-8" in str(error) else "not a JSON object"
    return record if isinstance(record, dict) else "not a JSON object"


def _json_column(values: list[Any]) -> Any:
    """Text, numbers and booleans keep their type if all have the same; lists and objects become JSON text."""
    if not any(isinstance(value, list | dict) for value in values):
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            pass  # Mixed types: all as text.
    return pa.array([_json_text(value) for value in values], pa.string())


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _read_sessions(path: str, wanted: Wanted, problems: BadRows) -> Iterator[RawBatch]:
    if "item_id" not in wanted.names or "session_id" not in wanted.names:
        raise DatasetError(path, "session lines hold events, not items")
    # Lines of different files are different sessions.
    prefix = hashlib.blake2b(path.encode(), digest_size=8).hexdigest()
    for numbers, lines, done, total in _lines(path, _SESSION_LINES_A_BATCH):
        keep = []
        for number, line in zip(numbers, lines, strict=True):
            text = _line_text(line)
            if text is None:
                problems.add(SkippedRows(path, "", "not UTF-8", number, 1))
            else:
                keep.append((number, text))
        items = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(pa.array([text for _, text in keep], pa.string())))
        rows = np.array([number for number, _ in keep], np.int64)[pc.list_parent_indices(items).to_numpy()]
        sessions = pc.binary_join_element_wise(prefix, pa.array(rows).cast(pa.string()), ":")
        columns = {"session_id": sessions, "item_id": items.flatten()}
        yield RawBatch(path, rows, columns, {}, done, total)


def _line_text(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _lines(path: str, batch: int) -> Iterator[tuple[list[int], list[bytes], int, int]]:
    """Lines that are not blank, with their numbers from 1, in batches."""
    numbers: list[int] = []
    lines: list[bytes] = []
    size = 0
    with _Counted(path) as counted:
        for number, line in enumerate(_bounded_lines(path, counted.open_lines()), 1):
            if line and not line.isspace():
                numbers.append(number)
                lines.append(line)
                size += len(line)
            if len(lines) == batch or size > _LINE_BYTES_MAX:
                yield numbers, lines, counted.done, counted.total
                numbers, lines, size = [], [], 0
        if lines:
            yield numbers, lines, counted.done, counted.total


def _bounded_lines(path: str, file: io.BufferedIOBase) -> Iterator[bytes]:
    number = 0
    while line := file.readline(_LINE_BYTES_MAX):
        number += 1
        if len(line) == _LINE_BYTES_MAX:
            raise DatasetError(path, f"a line of more than {_LINE_BYTES_MAX} bytes", row=number)
        yield line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


class _Counted(io.RawIOBase):
    """A file that knows how much of it has been read, before decompression."""

    def __init__(self, path: str):
        self._file = Path(path).open("rb")  # noqa: SIM115 - closed by close()
        self.total = Path(path).stat().st_size
        self.done = 0
        self.gzipped = path.lower().endswith(".gz")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        self.done += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()

    def open_lines(self) -> io.BufferedIOBase:
        """The decompressed content."""
        if not self.gzipped:
            return io.BufferedReader(self, 1 << 20)
        stream = pa.input_stream(pa.PythonFile(self, mode="r"), compression="gzip")
        return io.BufferedReader(stream, 1 << 20)


_READERS = {
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_jsonl,
    ".txt": _read_sessions,
}


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
