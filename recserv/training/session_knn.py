"""The structure behind session-kNN: from an item to the newest sessions with it, from a session to its items."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from recserv.model.layout import Array
from recserv.training.sessions import Sessions

SESSIONS_AN_ITEM_MAX = 500
ITEMS_A_SESSION_MAX = 50
SESSIONS_MAX = 2_000_000


@dataclass(frozen=True)
class SessionKnn:
    """See `recserv.model.snapshot` for shapes and order."""

    item_offsets: npt.NDArray[np.int64]
    item_sessions: npt.NDArray[np.int32]
    session_offsets: npt.NDArray[np.int64]
    session_items: npt.NDArray[np.int32]
    session_age: npt.NDArray[np.float32]
    item_idf: npt.NDArray[np.float32]


def arrays(sessions: Sessions, item_count: int) -> dict[str, Array]:
    """The source's part of a model, by the names of `layout.ARRAYS`, where they begin with knn_."""
    knn = session_knn(sessions, item_count)
    return {f"knn_{field.name}": getattr(knn, field.name) for field in fields(knn)}


def session_knn(
    sessions: Sessions,
    item_count: int,
    *,
    sessions_an_item: int = SESSIONS_AN_ITEM_MAX,
    items_a_session: int = ITEMS_A_SESSION_MAX,
    sessions_max: int = SESSIONS_MAX,
) -> SessionKnn:
    """Keeps the newest `sessions_max` sessions with at least two different items, each item of a session once, at its
    last place, and the last `items_a_session` of them.
    """
    session, items = _last_places(sessions)
    session, items = _last_items(session, items, sessions.count, items_a_session)
    sizes = np.bincount(session, minlength=sessions.count)
    kept = np.flatnonzero(sizes > 1)[-sessions_max:]
    number = np.full(sessions.count, -1, np.int32)
    number[kept] = np.arange(len(kept), dtype=np.int32)
    keep = number[session] >= 0
    session, items = number[session[keep]], items[keep]

    item_offsets, item_sessions = _newest_sessions(session, items, item_count, sessions_an_item)
    frequency = np.bincount(items, minlength=item_count)
    idf = np.where(frequency > 0, np.log((len(kept) + 1) / np.maximum(frequency, 1)), 0.0)
    return SessionKnn(
        item_offsets=item_offsets,
        item_sessions=item_sessions,
        session_offsets=_offsets(session, len(kept)),
        session_items=items,
        session_age=sessions.age_days[kept],
        item_idf=idf.astype(np.float32),
    )


def _last_places(sessions: Sessions) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Session and item of every event that is the last one of its item in its session, in order of time."""
    session = sessions.session_of()
    order = np.lexsort((np.arange(len(session)), sessions.items, session))
    last = np.ones(len(order), bool)
    pair_session, pair_item = session[order], sessions.items[order]
    last[:-1] = (pair_session[1:] != pair_session[:-1]) | (pair_item[1:] != pair_item[:-1])
    places = np.sort(order[last])
    return session[places], sessions.items[places]


def _last_items(
    session: npt.NDArray[np.int32], items: npt.NDArray[np.int32], count: int, limit: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    ends = _offsets(session, count)[1:]
    keep = np.arange(len(session)) >= ends[session] - limit
    return session[keep], items[keep]


def _newest_sessions(
    session: npt.NDArray[np.int32], items: npt.NDArray[np.int32], item_count: int, limit: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    order = np.lexsort((-session.astype(np.int64), items))
    by_item, by_session = items[order], session[order]
    place = np.arange(len(order)) - _offsets(by_item, item_count)[by_item]
    keep = place < limit
    return _offsets(by_item[keep], item_count), by_session[keep]


def _offsets(groups: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int64]:
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(groups, minlength=count), out=offsets[1:])
    return offsets
