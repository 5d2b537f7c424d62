"""Event and catalogue files as batches of a table, one reader a kind.

    bytes (`files`) -> UTF-8 (`text`) -> TableBatch: what the file has, by its own names (`tables`)
    -> MappedBatch: the wanted columns by our names (`mapped`), of whatever type the file has

Parquet; delimited text (`csv_dialect`, `quotes`); JSON, an object a line or one array (`json_records`); session lines
(`.txt`: one session a line, its item ids oldest first). All but Parquet also packed. Batches are bounded, files are
streamed. A reader asks what is wanted as soon as it knows the names, and reads no other column.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from recserv.errors import DatasetError
from recserv.training import json_records
from recserv.training.checked_text import CheckedText, source_of
from recserv.training.csv_dialect import QUOTES_HINT, Dialect, ReadAs, find_dialect
from recserv.training.files import Kind, kind_of
from recserv.training.mapped import MappedBatch, Wanted
from recserv.training.notes import Notes
from recserv.training.problems import BadRows, SkippedRows
from recserv.training.quotes import BrokenQuotes, QuoteCheck
from recserv.training.tables import Rows, TableBatch
from recserv.training.text import ENCODING_HINT, TextStream, first_line

BATCH_ROWS = 1 << 16
_CSV_BLOCK_BYTES = 4 << 20
_LINES_A_BATCH = json_records.LINES_A_BATCH
_SESSION_LINES_A_BATCH = 1 << 13
_NO_ROWS = "Empty CSV file"
"""Arrow's error for a file without rows."""

Batch = TypeVar("Batch")
Choose = Callable[[list[str]], Collection[str]]
"""From the names that a file has to those that are to be read. Called again when JSON objects bring new ones."""


def read_batches(path: str, wanted: Wanted, problems: BadRows, notes: Notes | None = None) -> Iterator[MappedBatch]:
    """Streams a file. Raises DatasetError for a file that is missing, empty, of an unknown kind or unreadable."""
    kind = kind_of(path)
    columns = wanted.of_file(path)
    if kind == "sessions":
        for batch in _as_read(path, _read_sessions(path, wanted, problems)):
            if notes is not None:
                notes.rows_read += len(batch.rows)
            yield batch
    else:
        tables = read_tables(path, kind, wanted.read_as, wanted.known(), columns.choose, problems)
        yield from _as_read(path, (columns.apply(table) for table in _counted(tables, notes)))
    if notes is not None:
        notes.columns(columns.unused())


def _counted(tables: Iterator[TableBatch], notes: Notes | None) -> Iterator[TableBatch]:
    for table in tables:
        if notes is not None:
            notes.rows_read += len(table.rows)
        yield table


def read_tables(
    path: str, kind: Kind, told: ReadAs, known: Collection[str], choose: Choose, problems: BadRows
) -> Iterator[TableBatch]:
    """What the file has. Raises DatasetError."""
    if kind == "parquet":
        return _as_read(path, _read_parquet(path, choose))
    if kind == "csv":
        return _as_read(path, _read_csv(path, told, known, choose, problems))
    return _as_read(path, _read_json(path, told, choose, problems))


def _as_read(path: str, batches: Iterator[Batch]) -> Iterator[Batch]:
    try:
        yield from batches
    except (pa.ArrowException, OSError, EOFError) as error:
        raise DatasetError(path, f"cannot be read: {first_line(error)}") from error


def _read_parquet(path: str, choose: Choose) -> Iterator[TableBatch]:
    with pq.ParquetFile(path) as file:
        used = list(choose(file.schema_arrow.names))
        total, done = file.metadata.num_rows, 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=used):
            rows = np.arange(done + 1, done + 1 + batch.num_rows)
            done += batch.num_rows
            arrays = {name: batch.column(name) for name in used}
            yield TableBatch(path, rows, arrays, done=done, total=total)


def _read_csv(
    path: str, told: ReadAs, known: Collection[str], choose: Choose, problems: BadRows
) -> Iterator[TableBatch]:
    broken: set[int] = set()
    pending: list[SkippedRows] = []

    def on_broken_row(row: Any) -> str:
        # Arrow swallows exceptions of a handler, so problems are only recorded here.
        problem = f"{row.actual_columns} values where the header names {row.expected_columns}"
        broken.add(row.number)
        pending.append(SkippedRows(path, "", problem, row.number, 1))
        return "skip"

    with TextStream(path, told.encoding) as stream:
        dialect = find_dialect(path, stream.head, stream.whole, told, known)
        used = list(choose([name for name in dialect.names if name]))
        # By number: names may repeat or be empty where nobody asks for them.
        column = {name: f"c{dialect.names.index(name)}" for name in used}
        text = CheckedText(stream, dialect)
        if len(stream.head) == dialect.header_bytes and stream.whole:
            return
        reader = partial(_open_csv, text, dialect, list(column.values()), on_broken_row)
        next_row, taken = 1, 0
        for batch in _until_end(reader, text, stream, dialect, told):
            for problem in pending:
                problems.add(problem)
            pending.clear()
            if batch is None:
                if dialect.shape is not None and text.line_ends > taken + len(broken):
                    _refuse_swallowed_rows(path, dialect, told)
                break
            taken += batch.num_rows
            rows = _number_rows(next_row, batch.num_rows, broken)
            next_row = int(rows[-1]) + 1 if len(rows) else next_row
            arrays = {name: batch.column(batch.schema.get_field_index(column[name])) for name in used}
            yield TableBatch(path, rows, arrays, done=stream.done, total=stream.total)


def _open_csv(text: CheckedText, dialect: Dialect, used: list[str], on_broken_row: Callable[[Any], str]) -> Any:
    return pa_csv.open_csv(
        pa.PythonFile(text, mode="r"),
        read_options=pa_csv.ReadOptions(
            use_threads=False,
            block_size=_CSV_BLOCK_BYTES,
            column_names=[f"c{number}" for number in range(len(dialect.names))],
        ),
        parse_options=pa_csv.ParseOptions(
            delimiter=dialect.delimiter,
            quote_char='"' if dialect.quotes else False,
            newlines_in_values=dialect.quotes,
            invalid_row_handler=on_broken_row,
        ),
        # Bytes as they are: text, numbers and times are read by `columns`, which can name the row that is bad.
        convert_options=pa_csv.ConvertOptions(
            include_columns=used, column_types={name: pa.binary() for name in used}, check_utf8=False
        ),
    )


def _until_end(
    reader: Callable[[], Any], text: CheckedText, stream: TextStream, dialect: Dialect, told: ReadAs
) -> Iterator[Any]:
    """The batches, then None. Raises DatasetError if the text ended because something is wrong with it: whatever a
    parser made of the rest, and whatever it complains of, comes from that.
    """
    failure: Exception | None = None
    try:
        for batch in reader():
            if text.broken:
                break
            yield batch
    except pa.ArrowException as error:
        failure = error
    if text.broken:
        raise _quotes_error(stream.path, dialect, told)
    if stream.problem is not None:
        raise stream.problem
    if failure is not None and _NO_ROWS not in str(failure):
        raise failure
    yield None


def _refuse_swallowed_rows(path: str, dialect: Dialect, told: ReadAs) -> None:
    """Of a text with more lines than rows. Raises DatasetError if a value has rows in it."""
    if _broken_quotes(path, dialect, told, QuoteCheck(dialect.delimiter, shape=dialect.shape)) is not None:
        raise _quotes_error(path, dialect, told)


def _quotes_error(path: str, dialect: Dialect, told: ReadAs) -> DatasetError:
    """Reads the text again to find the row."""
    check = QuoteCheck(dialect.delimiter, numbered=True, shape=dialect.shape)
    found = _broken_quotes(path, dialect, told, check)
    if found is None:
        return DatasetError(path, f"a quotation mark opens and is not closed{QUOTES_HINT}")
    return DatasetError(path, f"{found.problem}{QUOTES_HINT}", row=found.row)


def _broken_quotes(path: str, dialect: Dialect, told: ReadAs, check: QuoteCheck) -> BrokenQuotes | None:
    with TextStream(path, told.encoding) as stream:
        source = source_of(stream, dialect)
        try:
            while data := source.read(1 << 20):
                check.feed(data)
            check.finish()
        except BrokenQuotes as error:
            return error
    return None


def _number_rows(first: int, count: int, broken: Collection[int]) -> Rows:
    """The numbers of `count` rows from `first` on, leaving out those of the broken rows."""
    rows = np.arange(first, first + count + len(broken))
    if broken:
        rows = rows[~np.isin(rows, np.fromiter(broken, np.int64, len(broken)))]
    return rows[:count]


def _read_json(path: str, told: ReadAs, choose: Choose, problems: BadRows) -> Iterator[TableBatch]:
    found: dict[str, None] = {}
    with TextStream(path, told.encoding) as stream:
        for rows, good, bad in json_records.records(stream, _LINES_A_BATCH):
            for number, problem in bad:
                hint = ENCODING_HINT if problem == json_records.NOT_UTF8 else ""
                problems.add(SkippedRows(path, "", problem + hint, number, 1))
            known = len(found)
            for record in good:
                found.update(dict.fromkeys(record))
            if not good:
                continue
            if len(found) > known:
                choose(list(found))
            yield TableBatch(path, np.array(rows, np.int64), objects=good, done=stream.done, total=stream.total)
        if stream.problem is not None:
            raise stream.problem


def _read_sessions(path: str, wanted: Wanted, problems: BadRows) -> Iterator[MappedBatch]:
    if "item_id" not in wanted.names or "session_id" not in wanted.names:
        raise DatasetError(path, "session lines hold events, not items")
    # Lines of different files are different sessions.
    prefix = hashlib.blake2b(path.encode(), digest_size=8).hexdigest()
    with TextStream(path, wanted.read_as.encoding) as stream:
        for numbers, lines in json_records.numbered_lines(stream, _SESSION_LINES_A_BATCH):
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
            yield MappedBatch(path, rows, columns, {}, stream.done, stream.total)
        if stream.problem is not None:
            raise stream.problem


def _line_text(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None
