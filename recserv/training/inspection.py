"""What a file contains, before anything is built from it: kind, columns, the mapping that fits, the first rows.

Only the first rows are read: of each file as many as a reader gives at once, of those at most ROWS_LOOKED_AT.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from recserv.errors import DatasetError
from recserv.model.data_report import EventName, Finding, RuleCount
from recserv.training.catalog import CATALOG_COLUMNS, CatalogDecoder
from recserv.training.csv_dialect import ReadAs, find_dialect
from recserv.training.dataset import EVENT_COLUMNS, EventDecoder, note_dates
from recserv.training.files import kind_of
from recserv.training.mapped import FileColumns
from recserv.training.mapping_fit import fitting, load_mapping
from recserv.training.mapping_tables import Part, TableMapping
from recserv.training.notes import Notes, findings
from recserv.training.problems import BadRows
from recserv.training.readers import read_batches, read_tables
from recserv.training.row_rules import is_rule_key
from recserv.training.tables import TableBatch
from recserv.training.text import TextStream
from recserv.training.written_dates import DateOrder
from recserv.types import EventType, Item, wall_clock_ms

ROWS_LOOKED_AT = 1000
ROWS_SHOWN = 5
_KINDS = {"parquet": "Parquet", "csv": "delimited text", "json": "JSON", "sessions": "session lines"}
_SEPARATORS = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "vertical bar"}


class ColumnSample(msgspec.Struct, frozen=True):
    """`stands_for`: our column, "" for none. `filled`: how many of the rows looked at have a value."""

    name: str
    stands_for: str
    filled: int
    example: str


class EventSample(msgspec.Struct, frozen=True):
    event_type: str
    session_id: str
    item_id: str
    time_ms: int | None


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """`part`: what the file is taken for, "" where nothing fits; `mapping`: by which mapping, "" by our own names or
    what was told. `fits`: built-in mappings that would do, the best first.
    """

    path: str
    kind: str
    details: tuple[str, ...] = ()
    rows: int = 0
    columns: tuple[ColumnSample, ...] = ()
    part: Literal["", "events", "catalog"] = ""
    mapping: str = ""
    fits: tuple[str, ...] = ()
    problem: str = ""
    events: tuple[EventSample, ...] = ()
    items: tuple[Item, ...] = ()
    event_names: tuple[EventName, ...] = ()
    bad_rows: tuple[Finding, ...] = ()
    values_left_out: tuple[Finding, ...] = ()
    rows_by_rule: tuple[RuleCount, ...] = ()
    rows_returned: int = 0


def inspect_file(path: str, table: TableMapping, catalog_table: TableMapping) -> Inspection:
    """`table` and `catalog_table`: what was told of events and of catalogues. Raises DatasetError."""
    kind = kind_of(path)
    known = table.wanted(EVENT_COLUMNS, ()).known() | catalog_table.wanted(CATALOG_COLUMNS, ()).known()
    told = table.wanted(EVENT_COLUMNS, ()).read_as
    if kind == "sessions":
        return _session_lines(path, table)
    problems = BadRows(skip=True)
    first = next(read_tables(path, kind, told, known, lambda names: names, problems), None)
    details = _details(path, kind, told, known, first)
    if first is None:
        return Inspection(path=path, kind=_KINDS[kind], details=details, problem="no rows")
    batch = first.first(ROWS_LOOKED_AT)
    names = (
        list(batch.arrays)
        if batch.objects is None
        else list(dict.fromkeys(key for one in batch.objects for key in one))
    )
    part, mapping, fits, problem = _taken_for(path, names, table, catalog_table)
    base = Inspection(
        path=path, kind=_KINDS[kind], details=details, rows=len(batch.rows), fits=fits, problem=problem, part=part
    )
    if part == "events":
        return _events(base, batch, names, mapping, problems)
    if part == "catalog":
        return _catalog(base, batch, names, mapping, problems)
    return msgspec.structs.replace(base, columns=_columns(batch, names, {}))


def _taken_for(
    path: str, names: list[str], table: TableMapping, catalog_table: TableMapping
) -> tuple[Literal["", "events", "catalog"], TableMapping, tuple[str, ...], str]:
    """What the file is, by which mapping, and which others fit; with nothing that fits, what is missing."""
    fits = {part: tuple(fitting(path, names, part)) for part in _PARTS}
    problem = ""
    told: dict[Part, TableMapping] = {"events": table, "catalog": catalog_table}
    # Options for a catalogue must not be tried on events first.
    parts = _PARTS if table.name or not catalog_table.name else _PARTS[::-1]
    for part in parts:
        try:
            FileColumns(path, told[part].wanted(_NAMES[part], _required(part, told[part]))).choose(names)
        except DatasetError as error:
            problem = problem or f"as {part}: {error.problem}"
            continue
        return part, told[part], fits[part], ""
    for part in parts:
        if fits[part] and not told[part].name:
            return part, load_mapping(fits[part][0], part), fits[part], ""
    return "", table, (), problem


_PARTS: tuple[Part, ...] = ("events", "catalog")
_NAMES: dict[Part, tuple[str, ...]] = {"events": EVENT_COLUMNS, "catalog": CATALOG_COLUMNS}


def _required(part: Part, table: TableMapping) -> tuple[str, ...]:
    if part == "catalog":
        return ("item_id",)
    return ("session_id", "item_id", *(() if table.read.default_event_type else ("event_type",)))


def _events(
    base: Inspection, batch: TableBatch, names: list[str], mapping: TableMapping, problems: BadRows
) -> Inspection:
    notes = Notes()
    decoder = EventDecoder(
        mapping, problems, notes, wall_clock_ms(), DateOrder(lambda order: note_dates(order, mapped))
    )
    file = FileColumns(batch.path, decoder.wanted)
    file.choose(names)
    mapped = file.apply(batch)
    try:
        decoded = decoder.decode(mapped)
    except DatasetError as error:
        return msgspec.structs.replace(
            base,
            part="",
            problem=f"as events: row {error.row}, column {error.column}: {error.problem}",
            columns=_columns(batch, names, file.sources()),
        )
    shown = range(min(ROWS_SHOWN, len(decoded.event_type)))
    return msgspec.structs.replace(
        base,
        mapping=mapping.name,
        columns=_columns(batch, names, file.sources()),
        events=tuple(
            EventSample(
                EventType(int(decoded.event_type[row])).name.lower(),
                decoded.session[row].as_py(),
                decoded.item[row].as_py(),
                None if decoded.time_ms is None else int(decoded.time_ms[row]),
            )
            for row in shown
        ),
        event_names=notes.event_names(),
        rows_by_rule=notes.rule_counts(),
        rows_returned=notes.rows_returned,
        bad_rows=findings((*problems.report(), *notes.unknown.values())),
        values_left_out=notes.values_left_out(),
    )


def _catalog(
    base: Inspection, batch: TableBatch, names: list[str], mapping: TableMapping, problems: BadRows
) -> Inspection:
    notes = Notes()
    decoder = CatalogDecoder(mapping, problems, notes)
    file = FileColumns(batch.path, decoder.wanted)
    file.choose(names)
    decoder.add(file.apply(batch))
    items = decoder.finish().items()
    return msgspec.structs.replace(
        base,
        mapping=mapping.name,
        columns=_columns(batch, names, file.sources()),
        rows_by_rule=notes.rule_counts(),
        items=tuple(item for item, _ in zip(items, range(ROWS_SHOWN), strict=False)),
        bad_rows=findings(problems.report()),
        values_left_out=notes.values_left_out(),
    )


def _session_lines(path: str, table: TableMapping) -> Inspection:
    wanted = table.wanted(EVENT_COLUMNS, ("session_id", "item_id"))
    first = next(read_batches(path, wanted, BadRows(skip=True)), None)
    if first is None:
        return Inspection(path=path, kind=_KINDS["sessions"], problem="no rows")
    items = first.columns["item_id"].to_pylist()[:ROWS_SHOWN]
    lines = first.rows[: len(items)].tolist()
    events = tuple(EventSample("view", f"line {line}", item, None) for line, item in zip(lines, items, strict=True))
    return Inspection(path=path, kind=_KINDS["sessions"], rows=len(first.rows), part="events", events=events)


def _columns(batch: TableBatch, names: list[str], sources: dict[str, str]) -> tuple[ColumnSample, ...]:
    sources = {name: source for name, source in sources.items() if not is_rule_key(name)}
    stands_for = {source.casefold(): name for name, source in sources.items()}
    found = []
    for name in names:
        values = [value for value in batch.values(name) if value is not None and value not in ("", b"")]
        ours = stands_for.get(name.casefold(), "")
        inside = [ours for source, ours in sources.items() if ours.startswith((f"{name}[", f"{name}."))]
        found.append(ColumnSample(name, ours or ", ".join(inside), len(values), _shown(values[0]) if values else ""))
    return tuple(found)


def _shown(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:37] + "..."


def _details(path: str, kind: str, told: ReadAs, known: set[str], first: TableBatch | None) -> tuple[str, ...]:
    if kind == "parquet":
        return ()
    with TextStream(path, told.encoding) as stream:
        details = [stream.encoding]
        if kind == "csv":
            dialect = find_dialect(path, stream.head, stream.whole, told, known)
            details.append(f"{_SEPARATORS.get(dialect.delimiter, repr(dialect.delimiter))} between columns")
            if not dialect.quotes:
                details.append("quotation marks are text")
        elif first is not None:
            details.append("one array" if stream.head.lstrip().startswith(b"[") else "an object a line")
    return tuple(details)
