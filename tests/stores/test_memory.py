from __future__ import annotations

from recserv.stores.lru import LruCache
from recserv.stores.memory import Accepted, LiveState
from recserv.types import SESSION_TTL_MS, EventType, Profile
from tests.stores.support import MINUTE_MS, START_MS, make


def live_state(sessions_max: int = 100, profiles_max: int = 100) -> LiveState:
    return LiveState(sessions_max=sessions_max, profiles_max=profiles_max)


def accepted(sequence: int, timeline: str = "t", at: int = START_MS, kind: EventType = EventType.VIEW) -> Accepted:
    return Accepted("default", timeline, make(f"e{sequence}", f"i{sequence}", at=at, kind=kind), sequence)


def commit(live: LiveState, sequence: int, **profiles: Profile) -> None:
    live.apply([], profiles, sequence)


def test_a_load_overtaken_by_a_commit_gives_the_commits_profile() -> None:
    live = live_state()
    live.begin_load(["k"])
    commit(live, 7, k=Profile(sequence=7))
    assert live.end_load(["k"], {"k": Profile(sequence=3)}) == {"k": Profile(sequence=7)}
    assert live.profiles.peek("k") == Profile(sequence=7)


def test_that_holds_even_if_the_commits_profile_was_dropped_from_memory_again() -> None:
    live = live_state(profiles_max=1)
    live.begin_load(["k"])
    commit(live, 7, k=Profile(sequence=7))
    commit(live, 8, other=Profile(sequence=8))
    assert live.profiles.peek("k") is None
    assert live.end_load(["k"], {}) == {"k": Profile(sequence=7)}


def test_a_load_that_read_more_than_memory_knows_is_believed() -> None:
    live = live_state()
    live.begin_load(["k"])
    commit(live, 7, k=Profile(sequence=7))
    # The next commit is in the file already, its callback not yet run.
    assert live.end_load(["k"], {"k": Profile(sequence=9)}) == {"k": Profile(sequence=9)}
    commit(live, 9, k=Profile(sequence=9))
    assert live.profiles.peek("k") == Profile(sequence=9)


def test_the_slower_of_two_loads_does_not_bring_back_what_is_old() -> None:
    live = live_state()
    live.begin_load(["k"])
    live.begin_load(["k"])
    commit(live, 7, k=Profile(sequence=7))
    for loaded in ({"k": Profile(sequence=7)}, {"k": Profile(sequence=3)}):
        assert live.end_load(["k"], loaded) == {"k": Profile(sequence=7)}


def test_a_failed_load_leaves_nothing_behind() -> None:
    live = live_state()
    live.begin_load(["k"])
    assert live.end_load(["k"], None) == {}
    assert live.profiles.peek("k") is None
    live.begin_load(["k"])
    assert live.end_load(["k"], {}) == {"k": Profile()}


def test_a_key_without_a_row_is_remembered_as_empty() -> None:
    live = live_state()
    live.begin_load(["k"])
    live.end_load(["k"], {})
    assert live.profiles.get("k") == Profile()


def test_sessions_expire_after_their_last_event() -> None:
    live = live_state()
    live.apply([accepted(1, "a"), accepted(2, "b"), accepted(3, "a", at=START_MS + MINUTE_MS)], {}, 3)
    assert live.expire(START_MS + SESSION_TTL_MS - 1, 10) == 0
    assert live.expire(START_MS + SESSION_TTL_MS, 10) == 1
    assert live.session_count == 1
    assert live.expire(START_MS + SESSION_TTL_MS + MINUTE_MS, 10) == 1
    assert live.session_count == 0


def test_expiry_looks_at_a_bounded_number_of_sessions_and_passes_by_those_dated_ahead() -> None:
    live = live_state()
    live.apply([accepted(1, "ahead", at=START_MS + 10 * SESSION_TTL_MS)], {}, 1)
    live.apply([accepted(n, f"s{n}") for n in range(2, 12)], {}, 11)
    assert live.expire(START_MS + SESSION_TTL_MS, 5) == 4
    assert live.expire(START_MS + SESSION_TTL_MS, 100) == 6
    assert live.session_count == 1


def test_beyond_the_bound_the_session_unused_for_longest_goes() -> None:
    live = live_state(sessions_max=2)
    live.apply([accepted(1, "a"), accepted(2, "b"), accepted(3, "a"), accepted(4, "c")], {}, 4)
    assert [bool(live.session(name, START_MS).events) for name in "abc"] == [True, False, True]
    assert live.sessions_evicted == 1


def test_an_impression_opens_no_session() -> None:
    live = live_state()
    live.apply([accepted(1, "a", kind=EventType.IMPRESSION)], {}, 1)
    assert (live.session_count, live.sequence) == (0, 1)


def test_the_cache_keeps_what_was_used_last_and_counts() -> None:
    cache: LruCache[str, int] = LruCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("b"), cache.peek("a"), cache.peek("c"), len(cache)) == (None, 1, 3, 2)
    assert (cache.hits, cache.misses, cache.evictions) == (1, 1, 1)
    cache.drop("a")
    cache.drop("never there")
    assert len(cache) == 1
