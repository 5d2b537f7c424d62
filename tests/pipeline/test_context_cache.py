from __future__ import annotations

import sys

import numpy as np
import pytest

from recserv.pipeline.context import Context, ContextBuilder
from recserv.pipeline.context_cache import AGE_MS_MAX, ContextCache, cacheable
from recserv.pipeline.settings import PipelineSettings
from recserv.types import (
    Event,
    EventType,
    Profile,
    RecommendQuery,
    SessionEvent,
    SessionState,
    ShopperState,
    Taste,
)
from tests.memory import bytes_of
from tests.pipeline.support import NOW_MS

EMPTY = np.empty(0, np.float32)
CONTEXT = Context(np.empty(0, np.int32), EMPTY, EMPTY.reshape(0, 3), 0, (), EMPTY, False, None, (), ())
QUERY = RecommendQuery(session_id="s")
EVENT = SessionEvent(1, "a", 0, 0, 1)
STATE = ShopperState(session=SessionState((EVENT, EVENT), 5), profile=Profile(sequence=5), sequence=9)


def filled() -> ContextCache:
    cache = ContextCache(1_000_000, entries_max=2)
    cache.put(QUERY, STATE, 1000, CONTEXT)
    return cache


def test_the_same_state_gives_the_same_context_whatever_others_did_meanwhile():
    later = ShopperState(session=STATE.session, profile=STATE.profile, sequence=100)
    assert filled().get(QUERY, later, 1500) is CONTEXT


@pytest.mark.parametrize(
    "changed",
    [
        ShopperState(session=SessionState(STATE.session.events, 6), profile=STATE.profile),
        ShopperState(session=SessionState((EVENT,), 5), profile=STATE.profile),
        ShopperState(session=STATE.session, profile=Profile(sequence=6)),
    ],
    ids=["an event came", "an event left the window", "the profile changed"],
)
def test_a_changed_state_is_never_answered_from_the_cache(changed):
    assert filled().get(QUERY, changed, 1000) is None


@pytest.mark.parametrize("now_ms", [2001, 999])
def test_an_entry_ends_by_age_and_by_a_clock_that_went_back(now_ms):
    assert filled().get(QUERY, STATE, now_ms) is None


def test_tenants_and_shoppers_do_not_share():
    cache = filled()
    assert cache.get(RecommendQuery(session_id="s", tenant="other"), STATE, 1000) is None
    assert cache.get(RecommendQuery(session_id="s", user_id="u"), STATE, 1000) is None


def test_the_oldest_goes_first_when_there_are_too_many():
    cache = filled()
    cache.put(RecommendQuery(session_id="t"), STATE, 1000, CONTEXT)
    cache.put(RecommendQuery(session_id="u"), STATE, 1000, CONTEXT)
    assert cache.get(QUERY, STATE, 1000) is None
    assert cache.get(RecommendQuery(session_id="t"), STATE, 1000) is CONTEXT


def test_what_is_too_old_to_be_used_is_not_kept():
    cache = ContextCache(10_000_000)
    for number in range(100):
        cache.put(RecommendQuery(session_id=str(number)), STATE, 1000, CONTEXT)
    cache.put(QUERY, STATE, 1001 + AGE_MS_MAX, CONTEXT)
    assert len(cache) == 1


def test_what_the_request_brings_is_not_cached():
    assert cacheable(QUERY)
    assert not cacheable(RecommendQuery())
    assert not cacheable(RecommendQuery(session_id="s", context_events=(Event(item_id="a"),)))
    assert not cacheable(RecommendQuery(session_id="s", anchor_item_ids=("a",)))
    assert not cacheable(RecommendQuery(session_id="s", candidate_item_ids=("a",)))


# Bounds in bytes


def shopper(number: int, items: int, disliked: int, text: str) -> tuple[RecommendQuery, ShopperState]:
    names = [f"item-{(number + place) % 200}" for place in range(items)]
    events = [SessionEvent(EventType.VIEW, name, NOW_MS - 5, NOW_MS, place + 1) for place, name in enumerate(names)]
    if text:
        query = f"{text} {number}"
        events.append(SessionEvent(EventType.SEARCH, "", NOW_MS - 1, NOW_MS, items + 1, search_query=query))
    taste = tuple(Taste(f"item-{(number + 50 + place) % 200}", -1.0, NOW_MS) for place in range(disliked))
    state = ShopperState(SessionState(tuple(events), 100_000 + number), Profile(taste=taste, sequence=100_000 + number))
    return RecommendQuery(session_id=f"session-{number:030d}", user_id=f"user-{number:030d}"), state


@pytest.mark.parametrize(
    ("items", "disliked", "text"), [(1, 0, ""), (20, 0, ""), (20, 50, ""), (3, 0, "red kettle"), (0, 0, "wooden " * 90)]
)
def test_contexts_are_as_large_as_they_are_said_to_be(engine, items, disliked, text):
    builder = ContextBuilder(engine, PipelineSettings())
    cache = ContextCache(10_000_000)
    # Made before: what the store keeps anyway is not the cache's. The names of a request are.
    shoppers = [shopper(number, items, disliked, text) for number in range(300)]
    texts = [f"{text} {number}" for number in range(300)]
    builder.build(shoppers[0][1], shoppers[0][0], NOW_MS)

    def fill() -> ContextCache:
        for query, state in shoppers:
            own = RecommendQuery(session_id=f"{query.session_id}-", user_id=f"{query.user_id}-")
            cache.put(own, state, NOW_MS, builder.build(state, own, NOW_MS))
        return cache

    measured = bytes_of(fill) + (sum(map(sys.getsizeof, texts)) if text else 0)
    # The item rows of a model as small as this one are numbers that Python keeps anyway.
    measured += 300 * disliked * sys.getsizeof(1000)
    assert len(cache) == 300
    assert 0.85 < cache.bytes / measured < 1.15


def test_it_stays_within_its_bytes_whatever_the_contexts_are(engine):
    builder = ContextBuilder(engine, PipelineSettings())
    cache = ContextCache(20_000)
    for number in range(100):
        query, state = shopper(number, number % 20, number % 7 * 10, "red kettle" * (number % 3))
        context = builder.build(state, query, NOW_MS)
        cache.put(query, state, NOW_MS, context)
        assert cache.bytes <= 20_000
        assert cache.get(query, state, NOW_MS) is context
    assert 3 < len(cache) < 20
    cache.put(query, state, NOW_MS + 2 * AGE_MS_MAX, context)
    assert (len(cache), cache.bytes < 6_000) == (1, True)
