from __future__ import annotations

from sys import getsizeof

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv.resilience.lru import LruCache
from recserv.stores.memory import Accepted, LiveState
from recserv.stores.sizes import SESSION_BYTES, event_bytes, kept_profile_bytes, profile_bytes
from recserv.types import SESSION_TTL_MS, EventType, Profile, Purchase, Taste
from tests.memory import bytes_of
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


# Bounds in bytes


@pytest.mark.parametrize(("events", "query"), [(1, ""), (20, ""), (20, "red shoes for children"), (130, "")])
def test_sessions_are_as_large_as_they_are_said_to_be(events: int, query: str) -> None:
    live = live_state(sessions_max=10_000)
    sessions = 1500 // events

    def build() -> None:
        for number in range(sessions * events):
            # Names of their own, as they come from a request.
            timeline = f"default\0ssession-{number % sessions:06d}"
            text = f"{query} {number}" if query else ""
            at, time_ms = START_MS + 2 * number, START_MS + 2 * number - 1
            append = make(f"e{number}", f"item-{number:08d}", at=at, event_time_ms=time_ms, search_query=text)
            live.apply([Accepted("default", timeline, append, number + 1)], {}, number + 1)

    measured = bytes_of(build)
    assert 0.85 < live.session_bytes / measured < 1.15
    assert live.expire(START_MS + 10 * SESSION_TTL_MS, 10_000) == sessions
    assert live.session_bytes == 0


@pytest.mark.parametrize("lines", [1, 10, 50])
def test_profiles_are_as_large_as_they_are_said_to_be(lines: int) -> None:
    def profile(number: int) -> Profile:
        names = [f"item-{number:05d}{line:05d}" for line in range(lines)]
        return Profile(
            cart={f"{name}c": line + 1 for line, name in enumerate(names)},
            purchases=tuple(Purchase(f"{name}p", START_MS + line) for line, name in enumerate(names)),
            taste=tuple(Taste(f"{name}t", line + 0.5, START_MS - line) for line, name in enumerate(names)),
            event_count=1_000 + number,
            sequence=1_000_000 + number,
            updated_ms=START_MS + number,
        )

    count = 500 // lines
    measured = bytes_of(lambda: [profile(number) for number in range(count)])
    assert 0.85 < count * profile_bytes(profile(0)) / measured < 1.15
    cache: LruCache[str, Profile] = LruCache(10_000, None, kept_profile_bytes)

    def fill() -> LruCache[str, Profile]:
        for number in range(count):
            cache.put(f"default\0u{number:0256d}", profile(number))
        return cache

    kept = bytes_of(fill)
    assert 0.85 < cache.bytes / kept < 1.15


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 300)), max_size=300))
def test_the_count_of_bytes_agrees_with_what_is_there_and_stays_in_its_bound(steps: list[tuple[int, int, int]]) -> None:
    live = LiveState(sessions_max=100, profiles_max=10, session_bytes_max=40_000)
    now_ms = START_MS
    for sequence, (session, minutes, age_s) in enumerate(steps * 2, 1):
        now_ms += minutes * MINUTE_MS // 8
        append = make(f"e{sequence}", "i" * (sequence % 50 + 1), at=now_ms, event_time_ms=now_ms - 1000 * age_s)
        live.apply([Accepted("default", f"s{session}", append, sequence)], {}, sequence)
        assert live.session_bytes <= 40_000 or live.session_count == 1
    events = [event for held in live._sessions.values() for event in held.state.events]
    names = sum(SESSION_BYTES + getsizeof(name) for name in live._sessions)
    assert live.session_bytes == names + sum(event_bytes(event.item_id, event.search_query) for event in events)


def test_beyond_the_bytes_the_session_and_the_profile_unused_for_longest_go() -> None:
    live = LiveState(sessions_max=100, profiles_max=100, session_bytes_max=1_500, profile_bytes_max=1_700)
    for number, name in enumerate("abac", 1):
        live.apply([accepted(number, name)], {name: Profile(sequence=number)}, number)
    assert [bool(live.session(name, START_MS).events) for name in "abc"] == [True, False, True]
    assert live.sessions_evicted == 1
    assert live.session_bytes <= 1_500
    live.apply([], {"d": Profile(sequence=5), "e": Profile(sequence=6)}, 6)
    assert [live.profiles.peek(name) is None for name in "abcde"] == [True, True, False, False, False]
    assert live.profiles.bytes <= 1_700
