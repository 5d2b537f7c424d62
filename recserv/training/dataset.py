"""Event files into one columnar event log.

    read_batches -> _decode: every value read and judged -> _Collector: ids as codes -> EventLog

No row becomes a Python object. Session and item ids are dictionary-encoded batch by batch, the dictionaries unified
once at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recserv.errors import DatasetError, UsageError
from recserv.training import columns
from recserv.training.problems import BadRows, Progress, RowChecks, no_progress
from recserv.training.readers import RawBatch, Wanted, read_batches
from recserv.types import EventType

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

_ALIASES = {
    EventType.VIEW: "view views pageview page_view detail product_view product_detail view_item item_view visit browse",
    EventType.CLICK: "click clicks clickout",
    EventType.ADD_TO_CART: "add_to_cart addtocart cart add add_to_basket addtobasket basket",
    EventType.REMOVE_FROM_CART: "remove_from_cart removefromcart remove remove_from_basket",
    EventType.PURCHASE: "purchase purchased buy bought order transaction sale checkout conversion",
    EventType.SEARCH: "search query searched",
    EventType.RATE: "rate rating review",
    EventType.IMPRESSION: "impression impressions exposure show",
    EventType.DISLIKE: "dislike hide not_interested thumbs_down",
}
EVENT_TYPES: Mapping[str, EventType] = {name: kind for kind, names in _ALIASES.items() for name in names.split()}
"""What a file may call an event type, in lower case with underscores."""


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

    def __len__(self) -> int:
        return len(self.session)


def parse_event_type(name: str) -> EventType | None:
    """None for a name that is no event type."""
    key = name.strip().lower().replace("-", "_").replace(" ", "_")
    return EVENT_TYPES.get(key.removeprefix("event_type_"))


def read_events(
    paths: Sequence[str],
    *,
    mapping: Mapping[str, str] | None = None,
    default_event_type: str | None = None,
    problems: BadRows | None = None,
    progress: Progress = no_progress,
) -> EventLog:
    """All files as one log. `mapping` gives the name in the files by our name. Raises DatasetError, UsageError."""
    problems = problems or BadRows(skip=False)
    wanted, default = _wanted(mapping or {}, default_event_type)
    collector = _Collector()
    for path in paths:
        seen = 0
        for raw in read_batches(path, wanted, problems):
            progress(f"reading {path.rsplit('/', 1)[-1]}", raw.done, raw.total)
            seen += len(raw.rows)
            try:
                collector.add(_decode(raw, default, problems))
            except pa.ArrowException as error:
                raise DatasetError(path, f"a column has a type that cannot be read: {error}") from error
        if seen == 0:
            raise DatasetError(path, "the file has no rows")
    return collector.finish(paths)


def check_mapping(mapping: Mapping[str, str], names: Sequence[str]) -> None:
    """Raises UsageError for a mapping of a column that does not exist."""
    unknown = sorted(set(mapping) - set(names))
    if unknown:
        raise UsageError(f"--column {unknown[0]}: no such column; known are {', '.join(names)}")


def _wanted(mapping: Mapping[str, str], default_event_type: str | None) -> tuple[Wanted, EventType | None]:
    default = None
    required: tuple[str, ...] = ("event_type", "session_id", "item_id")
    if default_event_type is not None:
        default = parse_event_type(default_event_type)
        if default is None:
            raise UsageError(f"--default-event-type {default_event_type}: no such event type")
        required = ("session_id", "item_id")
    return Wanted(EVENT_COLUMNS, required, mapping), default


@dataclass(frozen=True)
class _Batch:
    """Good rows only. `time_ms` None: the file has no such column."""

    path: str
    session: Any
    item: Any
    event_type: npt.NDArray[np.uint8]
    time_ms: npt.NDArray[np.int64] | None
    event_id: Any


def _decode(raw: RawBatch, default: EventType | None, problems: BadRows) -> _Batch:
    checks = RowChecks(raw.path, raw.rows, raw.sources)
    session = _ids(raw, checks, "session_id", required=True)
    event_type = _event_types(raw, checks, default)
    item, no_item, bad_item = columns.as_ids(raw.columns["item_id"])
    checks.bad("item_id", "not an id", bad_item, raw.columns["item_id"])
    checks.bad("item_id", "empty", no_item & (event_type != EventType.SEARCH))
    event_id = _ids(raw, checks, "event_id", required=True) if "event_id" in raw.columns else None
    if "user_id" in raw.columns:
        _ids(raw, checks, "user_id", required=False)
    time_ms = _times(raw, checks)
    for name in ("quantity", "value"):
        if name in raw.columns:
            numbers, bad = columns.as_number(raw.columns[name])
            checks.bad(name, "not a finite number", bad, raw.columns[name])
            checks.bad(name, "negative", numbers < 0, raw.columns[name])
    good = checks.settle(problems)
    keep = pa.array(good)
    return _Batch(
        path=raw.path,
        session=session.filter(keep),
        item=item.filter(keep),
        event_type=event_type[good],
        time_ms=None if time_ms is None else time_ms[good],
        event_id=None if event_id is None else event_id.filter(keep),
    )


def _ids(raw: RawBatch, checks: RowChecks, name: str, *, required: bool) -> Any:
    encoded, missing, bad = columns.as_ids(raw.columns[name])
    checks.bad(name, "not an id", bad, raw.columns[name])
    if required:
        checks.bad(name, "empty", missing)
    return encoded


def _event_types(raw: RawBatch, checks: RowChecks, default: EventType | None) -> npt.NDArray[np.uint8]:
    if "event_type" not in raw.columns:
        return np.full(len(raw.rows), default or EventType.VIEW, np.uint8)
    encoded, missing, bad = columns.as_ids(raw.columns["event_type"])
    known = [parse_event_type(name) for name in encoded.dictionary.to_pylist()]
    codes = np.array([0 if kind is None else kind for kind in known], np.uint8)
    kinds: npt.NDArray[np.uint8] = codes[encoded.indices.to_numpy(zero_copy_only=False)]
    if default is not None:
        kinds = np.where(missing, np.uint8(default), kinds)
    checks.bad("event_type", "empty", missing & (kinds == 0))
    checks.bad("event_type", "unknown event type", bad | (kinds == 0), raw.columns["event_type"])
    return kinds


def _times(raw: RawBatch, checks: RowChecks) -> npt.NDArray[np.int64] | None:
    if "event_time" not in raw.columns:
        return None
    time_ms, bad = columns.as_time_ms(raw.columns["event_time"])
    checks.bad("event_time", "neither ISO 8601 nor an epoch time", bad, raw.columns["event_time"])
    checks.bad("event_time", "empty", time_ms < 0)
    return time_ms


@dataclass
class _Collector:
    """Batches so far; `finish` makes one log of them."""

    sessions: list[Any] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    event_ids: list[Any] = field(default_factory=list)
    types: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    times: list[npt.NDArray[np.int64]] = field(default_factory=list)
    with_time: str = ""
    without_time: str = ""

    def add(self, batch: _Batch) -> None:
        self.sessions.append(batch.session)
        self.items.append(batch.item)
        self.types.append(batch.event_type)
        self.event_ids.append(batch.event_id)
        if batch.time_ms is None:
            self.without_time = batch.path
        else:
            self.times.append(batch.time_ms)
            self.with_time = batch.path
        if self.with_time and self.without_time:
            raise DatasetError(self.without_time, f"has no event_time, but {self.with_time} has", column="event_time")

    def finish(self, paths: Sequence[str]) -> EventLog:
        if not any(len(types) for types in self.types):
            raise DatasetError(paths[0] if paths else "events", "no good row is left")
        session, session_ids = _unify(self.sessions)
        item, names = _compact(*_unify(self.items))
        keep = self._first_of_each_id(session)
        return EventLog(
            item_ids=names,
            session_count=len(session_ids),
            session=session[keep],
            item=item[keep],
            event_type=np.concatenate(self.types)[keep],
            time_ms=np.concatenate(self.times)[keep] if self.times else None,
            duplicates=len(session) - int(np.count_nonzero(keep)),
        )

    def _first_of_each_id(self, session: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """An event id is unique within its session: what carries it again is the same event, sent twice."""
        keep = np.ones(len(session), bool)
        if any(ids is None for ids in self.event_ids):
            return keep
        event, names = _unify(self.event_ids)
        _, first = np.unique(session.astype(np.int64) * len(names) + event, return_index=True)
        keep[:] = False
        keep[first] = True
        return keep


def _compact(codes: npt.NDArray[np.int32], values: Any) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Without the values that no code uses any more. The empty value, of searches without an item, becomes -1."""
    used, inverse = np.unique(codes, return_inverse=True)
    codes = inverse.astype(np.int32)
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
