from __future__ import annotations

import numpy as np

from recserv.training.dataset import EventLog
from recserv.training.popular import popularity, top_by_category, top_items
from recserv.training.sessions import Sessions, build_sessions
from recserv.types import EventType

VIEW, CART, BUY, SEARCH, DISLIKE = (
    EventType.VIEW,
    EventType.ADD_TO_CART,
    EventType.PURCHASE,
    EventType.SEARCH,
    EventType.DISLIKE,
)
_DAY_MS = 24 * 3600 * 1000


def log_of(events: list[tuple[int, int, EventType, int]], *, timed: bool = True, items: int = 100) -> EventLog:
    """Events as (session, item, type, time)."""
    session, item, kind, time = (list(column) for column in zip(*events, strict=True))
    return EventLog(
        item_ids=[f"{code:03d}" for code in range(items)],
        session_count=max(session) + 1,
        session=np.array(session, np.int32),
        item=np.array(item, np.int32),
        event_type=np.array(kind, np.uint8),
        time_ms=np.array(time, np.int64) if timed else None,
    )


def build(log: EventLog, seed: int = 0) -> Sessions:
    return build_sessions(log, np.arange(len(log.item_ids), dtype=np.int32), seed=seed)


def lists(sessions: Sessions) -> list[list[int]]:
    return [part.tolist() for part in np.split(sessions.items, sessions.offsets[1:-1])]


def test_sessions_go_from_oldest_to_newest_and_events_by_time() -> None:
    sessions = build(log_of([(0, 5, VIEW, 900), (1, 7, VIEW, 100), (0, 4, VIEW, 800), (1, 8, VIEW, 200)]))
    assert lists(sessions) == [[7, 8], [4, 5]]
    np.testing.assert_allclose(sessions.age_days, [700 / _DAY_MS, 0], rtol=1e-6)


def test_without_times_the_order_of_rows_is_the_order_of_time() -> None:
    sessions = build(log_of([(0, 5, VIEW, 0), (1, 7, VIEW, 0), (0, 4, VIEW, 0), (1, 3, VIEW, 0)], timed=False))
    assert lists(sessions) == [[5, 4], [7, 3]]
    assert not sessions.age_days.any()


def test_an_item_that_follows_itself_is_one_entry_of_the_largest_weight() -> None:
    sessions = build(log_of([(0, 1, VIEW, 1), (0, 1, CART, 2), (0, 1, BUY, 3), (0, 2, VIEW, 4), (0, 1, VIEW, 5)]))
    assert lists(sessions) == [[1, 2, 1]]
    assert sessions.weights.tolist() == [3, 1, 1]


def test_searches_and_dislikes_are_no_part_of_a_sequence() -> None:
    sessions = build(log_of([(0, -1, SEARCH, 1), (0, 1, VIEW, 2), (0, 2, DISLIKE, 3), (1, 3, DISLIKE, 4)]))
    assert lists(sessions) == [[1]]


def baskets(count: int, size: int, kind: EventType, *, ascending: bool) -> list[tuple[int, int, EventType, int]]:
    rng = np.random.default_rng(0)
    events = []
    for session in range(count):
        items = rng.choice(100, size, replace=False)
        events += [(session, int(i), kind, session * 1000) for i in (sorted(items) if ascending else items)]
    return events


def test_baskets_sorted_by_item_are_shuffled_and_marked() -> None:
    for timed in (True, False):
        log = log_of(baskets(50, 6, BUY, ascending=True), timed=timed)
        sessions = build(log)
        assert sessions.unordered.all()
        assert [sorted(one) for one in lists(sessions)] == [sorted(one) for one in lists(build(log, seed=1))]
        ascending = sum(one == sorted(one) for one in lists(sessions))
        assert ascending < 5
        assert (sessions.items == build(log).items).all()
        assert (sessions.items != build(log, seed=1).items).any()


def test_baskets_bought_at_one_time_have_no_order() -> None:
    assert build(log_of(baskets(50, 6, BUY, ascending=False))).unordered.all()


def test_views_at_one_time_keep_the_order_of_their_rows() -> None:
    events = baskets(50, 6, VIEW, ascending=False)
    sessions = build(log_of(events))
    assert not sessions.unordered.any()
    assert sessions.items.tolist() == [item for _, item, _, _ in events]


def test_popularity_weighs_types_and_the_recent_one_fades() -> None:
    old, new = 0, 500 * _DAY_MS
    log = log_of([(0, 0, BUY, old), (0, 1, VIEW, new), (1, 2, CART, new), (1, -1, SEARCH, new)], items=4)
    overall, recent = popularity(log, 4)
    assert overall.tolist() == [3, 1, 2, 0]
    assert recent[0] < 1e-6
    assert recent[1:].tolist() == [1, 2, 0]


def test_without_times_late_rows_are_the_recent_ones() -> None:
    log = log_of([(0, 0, VIEW, 0)] * 50 + [(0, 1, VIEW, 0)] * 50, timed=False, items=2)
    overall, recent = popularity(log, 2)
    assert overall[0] == overall[1]
    assert recent[1] > 10 * recent[0]


def test_top_items_are_available_and_have_events() -> None:
    counts = np.array([5, 9, 5, 0, 7], np.float32)
    available = np.array([1, 0, 1, 1, 1], np.uint8)
    assert top_items(counts, available, 10).tolist() == [4, 0, 2]
    assert top_items(counts, available, 2).tolist() == [4, 0]


def test_a_category_of_new_items_still_shows_them() -> None:
    offsets, items = top_by_category(
        counts=np.array([5, 9, 0, 0], np.float32),
        available=np.array([1, 1, 1, 0], np.uint8),
        item_category_offsets=np.array([0, 1, 2, 4, 5]),
        item_categories=np.array([0, 0, 0, 2, 2], np.int32),
        category_count=3,
        limit=2,
    )
    assert offsets.tolist() == [0, 2, 2, 3]
    assert items.tolist() == [1, 0, 2]
