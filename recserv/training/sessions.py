"""The event log as sequences: sessions from the oldest to the newest, their items in the order in which they happened.

Baskets whose lines share one time have no order of their own; in many exports they are sorted by product, and a model
would learn that sorting. Such a session is marked `unordered` and shuffled, so nothing can depend on its order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recserv.event_weights import EVENT_WEIGHTS
from recserv.training.dataset import EventLog
from recserv.types import EventType

TYPE_WEIGHTS = np.zeros(max(EventType) + 1, np.float32)
"""How much an event says for its item, relative to a view. Types of weight 0 are no part of sequences."""
for _kind, _weight in EVENT_WEIGHTS.items():
    TYPE_WEIGHTS[_kind] = _weight.learned

# With four or more different items, at most one session in 24 ascends by chance.
_SORTED_SHARE = 0.6
_SORTED_LENGTH = 4
_DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class Sessions:
    """`items` int32 [m] rows of the model and `weights` float32 [m], session after session; `offsets` int64 [s + 1];
    `unordered` bool [s]; `age_days` float32 [s], days between a session's last event and the newest one of all, 0
    where the data carry no time.
    """

    offsets: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    unordered: npt.NDArray[np.bool_]
    age_days: npt.NDArray[np.float32]
    has_time: bool

    @property
    def count(self) -> int:
        return len(self.unordered)

    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)

    def session_of(self) -> npt.NDArray[np.int32]:
        """The session of every event: int32 [m]."""
        return np.repeat(np.arange(self.count, dtype=np.int32), self.lengths())


def build_sessions(
    log: EventLog, item_rows: npt.NDArray[np.int32], *, seed: int, keep_repeats: bool = False
) -> Sessions:
    """Sequences of the events whose type has a weight. `item_rows` int32: the model's row of each item code.

    An item that follows itself directly (viewed, put into the cart, bought) becomes one entry of the largest weight;
    with `keep_repeats` only where the weights differ: an item viewed twice is then two entries.
    """
    weights = TYPE_WEIGHTS[log.event_type]
    rows = np.flatnonzero((log.item >= 0) & (weights > 0))
    session, last = _by_recency(log, rows)
    time = np.zeros(len(rows), np.int64) if log.time_ms is None else log.time_ms[rows]
    order = np.lexsort((time, session))
    rows, session, time = rows[order], session[order], time[order]
    items = item_rows[log.item[rows]]
    offsets = _offsets(session, len(last))

    unordered = _unordered(log, rows, offsets, time)
    rng = np.random.default_rng(seed)
    key = np.where(unordered[session], rng.random(len(rows)), np.arange(len(rows)) / max(len(rows), 1))
    order = np.lexsort((key, session))
    items, weights = items[order], weights[rows[order]]

    new_run = np.ones(len(items), bool)
    new_run[1:] = (items[1:] != items[:-1]) | (session[1:] != session[:-1])
    if keep_repeats:
        new_run[1:] |= weights[1:] == weights[:-1]
    starts = np.flatnonzero(new_run)
    newest = last.max(initial=0)
    age = np.zeros(len(last)) if log.time_ms is None else (newest - last) / _DAY_MS
    return Sessions(
        offsets=_offsets(session[starts], len(last)),
        items=items[starts],
        weights=np.maximum.reduceat(weights, starts) if len(starts) else weights,
        unordered=unordered,
        age_days=age.astype(np.float32),
        has_time=log.time_ms is not None,
    )


def _by_recency(log: EventLog, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Session numbers of `rows`, counted from the session whose last event is oldest, and when each ended (times, or
    row numbers where there are none).
    """
    last = session_ends(log, rows)
    by_age = np.argsort(last, kind="stable")
    by_age = by_age[last[by_age] >= 0]
    number = np.full(log.session_count, -1, np.int32)
    number[by_age] = np.arange(len(by_age), dtype=np.int32)
    return number[log.session[rows]], last[by_age]


def session_ends(log: EventLog, rows: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.int64]:
    """When each session ended, of the events in `rows` (None: all): int64 [log.session_count], a time or, where there
    are none, a row number; -1 for a session without any of the events.
    """
    rows = np.arange(len(log)) if rows is None else rows
    last = np.full(log.session_count, -1, np.int64)
    np.maximum.at(last, log.session[rows], rows if log.time_ms is None else log.time_ms[rows])
    return last


class TiedSessions(NamedTuple):
    """Sessions of several events that all share one time: how many, as a share of all with several events; whether
    they are mostly purchases; whether their rows are plainly sorted by item.
    """

    sessions: int
    share: float
    bought: bool
    sorted_by_item: bool


def tied_sessions(log: EventLog) -> TiedSessions:
    """Of a log without times: all, if their rows are sorted by item, else none."""
    rows = np.flatnonzero((log.item >= 0) & (TYPE_WEIGHTS[log.event_type] > 0))
    if not len(rows):
        return TiedSessions(0, 0.0, bought=False, sorted_by_item=False)
    rows = rows[np.argsort(log.session[rows], kind="stable")]
    time = np.zeros(len(rows), np.int64) if log.time_ms is None else log.time_ms[rows]
    starts = np.flatnonzero(np.r_[True, np.diff(log.session[rows]) != 0])
    lengths = np.diff(np.r_[starts, len(rows)])
    one_time = np.maximum.reduceat(time, starts) == np.minimum.reduceat(time, starts)
    in_order = _plainly_sorted(log, rows, starts, lengths, one_time)
    several = lengths > 1
    tied = one_time & several & (log.time_ms is not None or in_order)
    bought = np.repeat(tied, lengths) & (log.event_type[rows] == EventType.PURCHASE)
    return TiedSessions(
        int(tied.sum()),
        float(tied.sum() / max(several.sum(), 1)),
        bought=bool(2 * bought.sum() > lengths[tied].sum()),
        sorted_by_item=in_order,
    )


def _plainly_sorted(
    log: EventLog,
    rows: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    one_time: npt.NDArray[np.bool_],
) -> bool:
    """Whether sessions of one time have their items in ascending order far more often than chance would."""
    ascending = _ascending(_ranks(log.item_ids)[log.item[rows]], starts, lengths)
    telling = one_time & (lengths >= _SORTED_LENGTH)
    return bool(telling.any() and ascending[telling].mean() > _SORTED_SHARE)


def _unordered(
    log: EventLog, rows: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], time: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Sessions that carry no order, as the log says or else by rule: all at one time and bought together, or sorted by
    item as the others are.
    """
    lengths = np.diff(offsets)
    starts = offsets[:-1]
    if len(starts) == 0:
        return np.zeros(0, bool)
    one_time: npt.NDArray[np.bool_] = np.maximum.reduceat(time, starts) == np.minimum.reduceat(time, starts)
    if log.ties == "file":
        return np.zeros(len(starts), bool)
    if log.ties == "none" or _plainly_sorted(log, rows, starts, lengths, one_time):
        return one_time & (lengths > 1)
    if log.time_ms is None:
        return np.zeros(len(starts), bool)
    bought = np.add.reduceat((log.event_type[rows] == EventType.PURCHASE).astype(np.int64), starts)
    return one_time & (lengths > 1) & (2 * bought > lengths)


def _ranks(ids: list[str]) -> npt.NDArray[np.int64]:
    """The place of each id in sorted order, as numbers where all are, as text otherwise."""
    numeric = all(name.isascii() and name.isdigit() for name in ids)
    order = sorted(range(len(ids)), key=(lambda i: (len(ids[i]), ids[i])) if numeric else ids.__getitem__)
    ranks = np.empty(len(ids), np.int64)
    ranks[order] = np.arange(len(ids))
    return ranks


def _ascending(
    ranks: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Per session, whether its ranks never decrease."""
    falls = np.zeros(len(ranks), np.int64)
    falls[1:] = ranks[1:] < ranks[:-1]
    falls[starts] = 0
    result: npt.NDArray[np.bool_] = np.add.reduceat(falls, starts) == 0
    return result & (lengths > 0)


def _offsets(session: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int64]:
    """Where each session begins in a column sorted by session: int64 [count + 1]."""
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(session, minlength=count), out=offsets[1:])
    return offsets
