"""Splits off the newest sessions: a ranker must be trained on sessions that its sources have not seen.

EventLog -> older (sources are built from it), newer (examples are taken from it), whole sessions each
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from recserv.training.dataset import EventLog
from recserv.training.sessions import session_ends

SHARE = 0.1
EVENTS_MAX = 150_000
SESSIONS_MIN = 20


def split(log: EventLog, *, share: float = SHARE, events_max: int = EVENTS_MAX) -> tuple[EventLog, EventLog] | None:
    """(older, newer): the newest sessions with about `share` of the events, at most `events_max`. None if there are too
    few sessions to learn anything from.
    """
    lengths = np.bincount(log.session, minlength=log.session_count)
    by_age = np.argsort(session_ends(log), kind="stable")
    newest_first = np.cumsum(lengths[by_age][::-1])
    count = int(np.searchsorted(newest_first, min(share * len(log), events_max), side="right"))
    if not SESSIONS_MIN <= count <= log.session_count - SESSIONS_MIN:
        return None
    newer = np.zeros(log.session_count, bool)
    newer[by_age[-count:]] = True
    in_newer = newer[log.session]
    return rows_of(log, ~in_newer), rows_of(log, in_newer)


def newest(log: EventLog, events_max: int) -> EventLog:
    """The newest sessions with about so many events."""
    lengths = np.bincount(log.session, minlength=log.session_count)
    by_age = np.argsort(session_ends(log), kind="stable")[::-1]
    count = int(np.searchsorted(np.cumsum(lengths[by_age]), events_max, side="right"))
    if count >= log.session_count:
        return log
    chosen = np.zeros(log.session_count, bool)
    chosen[by_age[: max(count, 1)]] = True
    return rows_of(log, chosen[log.session])


def rows_of(log: EventLog, keep: npt.NDArray[np.bool_]) -> EventLog:
    """The log of some whole sessions; items that do not occur in it any more have no code in it."""
    used, codes = np.unique(log.item[keep & (log.item >= 0)], return_inverse=True)
    item = np.full(int(keep.sum()), -1, np.int32)
    item[log.item[keep] >= 0] = codes
    sessions, session = np.unique(log.session[keep], return_inverse=True)
    return replace(
        log,
        item_ids=[log.item_ids[code] for code in used.tolist()],
        session_count=len(sessions),
        session=session.astype(np.int32),
        item=item,
        event_type=log.event_type[keep],
        time_ms=None if log.time_ms is None else log.time_ms[keep],
        duplicates=0,
    )
