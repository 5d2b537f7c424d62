from __future__ import annotations

import numpy as np
import pytest

from recserv.pipeline.context import Context
from recserv.pipeline.context_cache import AGE_MS_MAX, ContextCache, cacheable
from recserv.types import Event, Profile, RecommendQuery, SessionEvent, SessionState, ShopperState

EMPTY = np.empty(0, np.float32)
CONTEXT = Context(np.empty(0, np.int32), EMPTY, EMPTY.reshape(0, 3), 0, (), EMPTY, False, None, (), ())
QUERY = RecommendQuery(session_id="s")
EVENT = SessionEvent(1, "a", 0, 0, 1)
STATE = ShopperState(session=SessionState((EVENT, EVENT), 5), profile=Profile(sequence=5), sequence=9)


def filled() -> ContextCache:
    cache = ContextCache(entries_max=2)
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
    cache = ContextCache()
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
