"""Reads event files into one columnar event log.

    bytes -> TableBatch -> MappedBatch (`readers`, `mapped`)
    -> EventDecoder: every value read and checked; bad rows and rows left out are removed and counted
    -> _Collector: ids as codes, events that came twice -> EventLog

No row becomes a Python object. Session and item ids are dictionary-encoded batch by batch, the dictionaries unified
once at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recserv.errors import DatasetError, UsageError
from recserv.training import columns
from recserv.training.event_names import parse_event_type
from recserv.training.files import expand
from recserv.training.mapped import MappedBatch, Wanted
from recserv.training.mapping_tables import TableMapping, combined
from recserv.training.notes import IGNORED, UNKNOWN, Notes, leave_out
from recserv.training.problems import BadRows, Progress, RowChecks, SkippedRows, no_progress
from recserv.training.readers import read_batches
from recserv.training.times import NO_TIME, TIME_MS_MIN, as_time_ms
from recserv.training.written_dates import DateOrder
from recserv.types import EVENT_AHEAD_MS_MAX, EventType, wall_clock_ms

EVENT_COLUMNS = (
    "event_type",
    "session_id",
    "item_id",
    "event_id",
    "user_id",
    "event_time",
    "quantity",
    "value",
    "search_query",
)
Ties = Literal["rule", "file", "none"]
_ID_COLUMNS = ("session_id", "item_id", "event_id", "user_id")
_NAMES_SHOWN = 20
ID_CONFLICT = (
    "this event id was used before in its session for another event; if it names an order rather than an event,"
    " --column event_id= leaves it out"
)


@dataclass(frozen=True)
class EventLog:
    """Events in the order of the files. `session` and `item` are codes int32 [m]; `item` -1: none (a search).
    `event_type` uint8 [m]. `time_ms` int64 [m] or None where the data carry no time. `session_count` codes are used.
    """

    item_ids: list[str]
    session_count: int
    session: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    event_type: npt.NDArray[np.uint8]
    time_ms: npt.NDArray[np.int64] | None
    duplicates: int = 0
    session_ids: Any = None
    """Arrow strings by code, where they came from files."""
    ties: Ties = "rule"
    """Whether the lines of a session that share one time are in order: as the `file` has them, `none` of them are, or
    by the `rule` of `sessions`.
    """

    def __len__(self) -> int:
        return len(self.session)


def read_events(
    paths: Sequence[str],
    *,
    mapping: Mapping[str, str] | None = None,
    default_event_type: str | None = None,
    table: TableMapping | None = None,
    problems: BadRows | None = None,
    notes: Notes | None = None,
    now_ms: int | None = None,
    progress: Progress = no_progress,
) -> EventLog:
    """All files, and all those in folders, as one log. `mapping` gives the name in the files by our name, over those of
    `table`; `now_ms` is the clock that no event may be far ahead of. Raises DatasetError, UsageError.
    """
    problems = problems or BadRows(skip=False)
    notes = notes or Notes()
    files = expand(paths)
    decoder = EventDecoder(
        combined(table or TableMapping(), mapping or {}, {}, default_event_type=default_event_type or ""),
        problems,
        notes,
        (wall_clock_ms() if now_ms is None else now_ms) + EVENT_AHEAD_MS_MAX,
        DateOrder(lambda order: look_at_dates(files, decoder.wanted, order, progress)),
    )
    collector = _Collector()
    for path in files:
        for raw in read_batches(path, decoder.wanted, problems, notes):
            progress(f"reading {path.rsplit('/', 1)[-1]}", raw.done, raw.total)
            try:
                collector.add(decoder.decode(raw), len(raw.rows))
            except pa.ArrowException as error:
                raise DatasetError(path, f"a column has a type that cannot be read: {error}") from error
    refuse_unknown_events(problems, notes)
    if not collector.seen:
        raise DatasetError(files[0] if files else "events", "the file has no rows" + " and no other" * (len(files) > 1))
    return collector.finish(files, problems)


def look_at_dates(files: Sequence[str], wanted: Wanted, order: DateOrder, progress: Progress) -> None:
    """Reads the times of all files, and nothing else of them. Raises DatasetError."""
    times = replace(wanted, names=("event_time",), required=())
    for path in files:
        for raw in read_batches(path, times, BadRows(skip=True)):
            progress(f"looking at the dates of {path.rsplit('/', 1)[-1]}", raw.done, raw.total)
            note_dates(order, raw)


def note_dates(order: DateOrder, raw: MappedBatch) -> None:
    if "event_time" in raw.columns:
        text, _ = columns.as_text(raw.columns["event_time"])
        order.look(pc.utf8_trim_whitespace(text), raw.rows, raw.path, raw.sources["event_time"])


def check_mapping(mapping: Mapping[str, str], names: Sequence[str], option: str = "--column") -> None:
    """Raises UsageError for a mapping of a column that does not exist."""
    unknown = sorted(set(mapping) - set(names))
    if unknown:
        raise UsageError(f"{option} {unknown[0]}: no such column; known are {', '.join(names)}")


def refuse_unknown_events(problems: BadRows, notes: Notes) -> None:
    """Name by name. Raises DatasetError if bad rows are not to be skipped."""
    if not notes.unknown:
        return
    if problems.skip:
        for found in notes.unknown.values():
            problems.add(found)
        return
    first = min(notes.unknown.values(), key=lambda found: (found.path, found.first_row))
    names = sorted(notes.unknown.values(), key=lambda found: -found.count)
    listed = ", ".join(f"{found.example} ({found.count:,})" for found in names[:_NAMES_SHOWN])
    listed += f" and {len(names) - _NAMES_SHOWN} more" * (len(names) > _NAMES_SHOWN)
    problem = f"unknown event type: {listed}; --event-type NAME=TYPE or NAME=ignore says what each is"
    raise DatasetError(first.path, problem, row=first.first_row, column=first.column)


@dataclass(frozen=True)
class EventBatch:
    """Good rows only. `time_ms` None: the file has no such column; `body` what else an event says, if it has an id."""

    path: str
    rows: npt.NDArray[np.int64]
    session: Any
    item: Any
    event_type: npt.NDArray[np.uint8]
    time_ms: npt.NDArray[np.int64] | None
    event_id: Any
    body: npt.NDArray[np.float64]
    event_id_column: str


@dataclass(frozen=True)
class JudgedEvents:
    """All rows of a batch, `good` bool [rows] says which count. `ids`: dictionary-encoded, by our names, of the columns
    that the file has; `quantity` and `value` float64, 0 where there is none.
    """

    good: npt.NDArray[np.bool_]
    ids: Mapping[str, Any]
    event_type: npt.NDArray[np.uint8]
    time_ms: npt.NDArray[np.int64] | None
    quantity: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]

    def batch(self, raw: MappedBatch) -> EventBatch:
        """The columns of the good rows that a model is trained on."""
        good, keep, event_id = self.good, pa.array(self.good), self.ids.get("event_id")
        amounts = np.column_stack((self.quantity, self.value))
        return EventBatch(
            path=raw.path,
            rows=raw.rows[good] if event_id is not None else raw.rows[:0],
            session=self.ids["session_id"].filter(keep),
            item=self.ids["item_id"].filter(keep),
            event_type=self.event_type[good],
            time_ms=None if self.time_ms is None else self.time_ms[good],
            event_id=None if event_id is None else event_id.filter(keep),
            body=amounts[good] if event_id is not None else np.zeros((0, 2)),
            event_id_column=raw.sources.get("event_id", "event_id"),
        )


class EventDecoder:
    """Reads every value of a batch and judges its rows. `needed`: the columns that a file must have besides event type
    and item; a session, where it is one of them, in every row.
    """

    def __init__(
        self,
        table: TableMapping,
        problems: BadRows,
        notes: Notes,
        latest_ms: int,
        dates: DateOrder,
        needed: tuple[str, ...] = ("session_id",),
    ):
        self._table, self._problems, self._notes, self._latest_ms = table, problems, notes, latest_ms
        self._dates = dates
        self._names = table.event_names()
        self._placeholders = table.placeholders()
        self._rules = table.rules()
        self._default = None
        self._needed = needed
        required: tuple[str, ...] = ("event_type", *needed, "item_id")
        if table.read.default_event_type:
            self._default = parse_event_type(table.read.default_event_type)
            if self._default is None:
                raise UsageError(f"--default-event-type {table.read.default_event_type}: no such event type")
            required = required[1:]
        self.wanted = table.wanted(EVENT_COLUMNS, required)

    def decode(self, raw: MappedBatch) -> EventBatch:
        return self.judge(raw).batch(raw)

    def judge(self, raw: MappedBatch) -> JudgedEvents:
        """Every value of every row, and which rows are good. Raises DatasetError."""
        checks = RowChecks(raw.path, raw.rows, raw.sources)
        leave_out(self._rules, raw, checks, self._notes, self._table.read.decimal)
        ids = {name: self._ids(raw, checks, name) for name in _ID_COLUMNS if name in raw.columns}
        self._leave_out(raw, checks, ids)
        event_type = self._event_types(raw, checks)
        if "session_id" in self._needed:
            checks.bad("session_id", "empty", ids["session_id"][1])
        without = ids["item_id"][1] & (event_type != EventType.SEARCH)
        if raw.exploded:
            self._notes.rows_without_item += checks.drop(without)
        else:
            checks.bad("item_id", "empty", without)
        time_ms = self._times(raw, checks)
        quantity, value = self._amounts(raw, checks, "quantity"), self._amounts(raw, checks, "value")
        # A return is not a purchase, and its row is not a bad one.
        self._notes.rows_returned += checks.drop(quantity < 0)
        checks.bad("value", "negative", value < 0, raw.columns.get("value"))
        self._notes.amount_columns(raw.sources)
        good = checks.settle(self._problems)
        return JudgedEvents(good, {name: found[0] for name, found in ids.items()}, event_type, time_ms, quantity, value)

    def _ids(self, raw: MappedBatch, checks: RowChecks, name: str) -> tuple[Any, columns.Mask]:
        """The ids and where there is none. Checked here; whether one must be there is for the caller to say."""
        column = raw.columns[name]
        encoded, missing, bad = columns.as_ids(column, self._placeholders)
        structured = raw.structured.get(name)
        if columns.is_structured(column.type):
            structured = bad
        if structured is not None:
            checks.bad(name, "a list, not an id", structured, column)
        checks.bad(name, "not an id", bad, column)
        return encoded, missing

    def _leave_out(self, raw: MappedBatch, checks: RowChecks, ids: Mapping[str, tuple[Any, columns.Mask]]) -> None:
        """Rows without any value are no rows."""
        owners = [ids[name][1].any() for name in ("session_id", "user_id") if name in ids]
        if not any(owners) or not ids["item_id"][1].any() or raw.exploded:
            return
        blank = np.ones(len(raw.rows), bool)
        for name, column in raw.columns.items():
            if name in ids:
                blank &= ids[name][1]
            else:
                text, bad = columns.as_text(column)
                blank &= columns.to_numpy(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(text), ""), True)) & ~bad
        self._notes.rows_blank += checks.drop(blank)

    def _event_types(self, raw: MappedBatch, checks: RowChecks) -> npt.NDArray[np.uint8]:
        if "event_type" not in raw.columns:
            kinds = np.full(len(raw.rows), self._default or EventType.VIEW, np.uint8)
            self._notes.event_name(
                "", EventType(int(kinds[0])).name.lower() if len(kinds) else "", int(checks.good.sum())
            )
            return kinds
        encoded, missing, bad = columns.as_ids(raw.columns["event_type"])
        names = encoded.dictionary.to_pylist()
        indices = columns.to_numpy(encoded.indices)
        taken = [self._names.taken_as(name) if name else self._default for name in names]
        unknown = np.array([name != "" and kind is None for name, kind in zip(names, taken, strict=True)], bool)
        ignored = np.array([kind is EventType.UNSPECIFIED for kind in taken], bool)
        codes = np.array([0 if kind is None else kind for kind in taken], np.uint8)
        checks.bad("event_type", "not a name", bad, raw.columns["event_type"])
        checks.bad("event_type", "empty", missing & (codes[indices] == 0))
        counts = np.bincount(indices[checks.good], minlength=len(names))
        for code, name in enumerate(names):
            kind = taken[code]
            if counts[code]:
                label = UNKNOWN if kind is None else IGNORED if ignored[code] else kind.name.lower()
                self._notes.event_name(name, label, int(counts[code]))
            if unknown[code] and counts[code]:
                mask = (indices == code) & checks.good
                row = int(raw.rows[np.flatnonzero(mask)[0]])
                source = raw.sources.get("event_type", "event_type")
                count = checks.drop(mask)
                self._notes.unknown_event(SkippedRows(raw.path, source, "unknown event type", row, count, repr(name)))
        self._notes.rows_ignored += checks.drop(ignored[indices])
        found: npt.NDArray[np.uint8] = codes[indices]
        return found

    def _times(self, raw: MappedBatch, checks: RowChecks) -> npt.NDArray[np.int64] | None:
        if "event_time" not in raw.columns:
            return None
        column = raw.columns["event_time"]
        form = self._table.read.time
        time_ms, bad = as_time_ms(column, form, self._dates)
        wrong = f"not written as {form!r}" if "%" in form else NO_TIME
        checks.bad("event_time", wrong, bad, column)
        checks.bad("event_time", "empty", time_ms < 0)
        checks.bad("event_time", "before 1990, so not the time of an event", time_ms < TIME_MS_MIN, column)
        checks.bad("event_time", "more than 5 minutes ahead of the clock", time_ms > self._latest_ms, column)
        return time_ms

    def _amounts(self, raw: MappedBatch, checks: RowChecks, name: str) -> npt.NDArray[np.float64]:
        if name not in raw.columns:
            return np.zeros(len(raw.rows))
        numbers, bad = columns.as_number(raw.columns[name], self._table.read.decimal)
        checks.left_out(self._notes, name, "not a finite number", bad, raw.columns[name])
        return np.nan_to_num(numbers, nan=0.0, posinf=0.0, neginf=0.0)


@dataclass
class _Collector:
    """Batches so far; `finish` makes one log of them."""

    batches: list[EventBatch] = field(default_factory=list)
    seen: bool = False
    with_time: str = ""
    without_time: str = ""

    def add(self, batch: EventBatch, rows: int) -> None:
        """`rows`: how many it had, good and bad."""
        if not rows:
            return
        self.seen = True
        self.batches.append(batch)
        if batch.time_ms is None:
            self.without_time = batch.path
        else:
            self.with_time = batch.path
        if self.with_time and self.without_time:
            raise DatasetError(self.without_time, f"has no event_time, but {self.with_time} has", column="event_time")

    def finish(self, paths: Sequence[str], problems: BadRows) -> EventLog:
        if not any(len(batch.event_type) for batch in self.batches):
            raise DatasetError(paths[0] if paths else "events", "no good row is left")
        session, session_ids = _unify([batch.session for batch in self.batches])
        item, names = _compact(*_unify([batch.item for batch in self.batches]))
        event_type = np.concatenate([batch.event_type for batch in self.batches])
        times = [batch.time_ms for batch in self.batches if batch.time_ms is not None]
        time_ms = np.concatenate(times) if times else None
        same = self._same_as_before(session, item, event_type, time_ms, problems)
        keep = slice(None) if same is None else ~same[0] & ~same[1]
        return EventLog(
            item_ids=names,
            session_count=len(session_ids),
            session=session[keep],
            item=item[keep],
            event_type=event_type[keep],
            time_ms=None if time_ms is None else time_ms[keep],
            duplicates=0 if same is None else int(np.count_nonzero(same[0])),
            session_ids=session_ids,
        )

    def _same_as_before(
        self,
        session: npt.NDArray[np.int32],
        item: npt.NDArray[np.int32],
        event_type: npt.NDArray[np.uint8],
        time_ms: npt.NDArray[np.int64] | None,
        problems: BadRows,
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None:
        """An event id is unique within its session: what carries it again is the same event, sent twice, if it says the
        same, and a conflict if not. Masks of both; None where events have no ids.
        """
        if any(batch.event_id is None for batch in self.batches):
            return None
        event, names = _unify([batch.event_id for batch in self.batches])
        _, first, place = np.unique(
            session.astype(np.int64) * len(names) + event, return_index=True, return_inverse=True
        )
        first = first[place]
        nameless = columns.to_numpy(pc.equal(names, ""))[event]
        again = (first != np.arange(len(event))) & ~nameless
        body = np.concatenate([batch.body for batch in self.batches])
        equal = (item == item[first]) & (event_type == event_type[first]) & (body == body[first]).all(axis=1)
        if time_ms is not None:
            equal &= time_ms == time_ms[first]
        conflict = again & ~equal
        self._refuse(conflict, event, names, problems)
        return again & equal, conflict

    def _refuse(
        self, conflict: npt.NDArray[np.bool_], event: npt.NDArray[np.int32], names: Any, problems: BadRows
    ) -> None:
        begin = 0
        for batch in self.batches:
            found = np.flatnonzero(conflict[begin : begin + len(batch.rows)])
            if len(found):
                example = repr(names[int(event[begin + found[0]])].as_py())
                row = int(batch.rows[found[0]])
                problems.add(SkippedRows(batch.path, batch.event_id_column, ID_CONFLICT, row, len(found), example))
            begin += len(batch.rows)


def _compact(codes: npt.NDArray[np.int32], values: Any) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Drops values that no code refers to. The empty value, of searches without an item, becomes -1."""
    # By counting rather than sorting: with ten million rows, sorting took a third of the time of reading.
    used = np.flatnonzero(np.bincount(codes, minlength=len(values)))
    place = np.zeros(len(values), np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    codes = place[codes]
    names = values.take(pa.array(used)).to_pylist()
    if "" in names:
        empty = names.index("")
        codes = np.where(codes == empty, -1, codes - (codes > empty)).astype(np.int32)
        del names[empty]
    return codes, names


def _unify(batches: list[Any]) -> tuple[npt.NDArray[np.int32], Any]:
    """Codes int32 [m] over all batches, and the values they stand for."""
    unified = pa.chunked_array(batches).unify_dictionaries()
    codes = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in unified.chunks])
    return codes.astype(np.int32), unified.chunk(0).dictionary
