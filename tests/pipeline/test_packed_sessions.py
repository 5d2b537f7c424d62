"""A session as Redis stores it gives the context that its structs give."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recserv._codec import scan_session
from recserv.pipeline.context import Context, ContextBuilder
from recserv.pipeline.context_cache import ContextCache
from recserv.pipeline.engine import Engine
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.shopper import shopper_context
from recserv.stores.packed import pack_session, unpack_session
from recserv.stores.state import visible_session
from recserv.types import (
    SESSION_EVENTS_MAX,
    SESSION_WINDOW_MS,
    EventType,
    PackedSession,
    Profile,
    RecommendQuery,
    SessionEvent,
    SessionState,
    ShopperState,
)
from tests.pipeline.support import NOW_MS, viewed

HORIZON_MS = NOW_MS - SESSION_WINDOW_MS
QUERY = RecommendQuery(session_id="s", context_events=viewed("item-3", "item-4"))


def packed(session: SessionState) -> PackedSession | SessionState:
    data = pack_session(session)
    size, version = scan_session(data, HORIZON_MS)
    return PackedSession(data, size, version, HORIZON_MS, unpack_session) if size else SessionState()


def assert_same(one: Context, other: Context) -> None:
    for name in one.__struct_fields__:
        found, wanted = getattr(one, name), getattr(other, name)
        if name == "search" and found is not None:
            assert found[0] == wanted[0]
        elif isinstance(found, np.ndarray):
            np.testing.assert_array_equal(found, wanted)
        else:
            assert found == wanted


events = st.lists(
    st.tuples(
        st.sampled_from([kind for kind in EventType if kind not in (EventType.UNSPECIFIED, EventType.IMPRESSION)]),
        st.integers(0, 220).map("item-{}".format),
        st.integers(0, 2 * SESSION_WINDOW_MS),
        st.sampled_from(["", "red lamp", "lamp", "nothing of the kind"]),
    ),
    max_size=30,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=events, brought=st.booleans())
def test_a_packed_session_gives_the_same_context_as_a_decoded_one(engine: Engine, events: list, brought: bool) -> None:
    builder = ContextBuilder(engine, PipelineSettings())
    session = session_of(events)
    query = QUERY if brought else RecommendQuery(session_id="s")
    profile = Profile(cart={"item-7": 1}, sequence=3)
    plain = ShopperState(visible_session(session, NOW_MS), profile)
    stored = ShopperState(packed(session), profile)
    assert_same(builder.build(stored, query, NOW_MS), builder.build(plain, query, NOW_MS))
    assert stored == plain
    context = builder.build(plain, query, NOW_MS)
    assert shopper_context(engine, stored, context) == shopper_context(engine, plain, context)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stored=st.integers(SESSION_EVENTS_MAX - 3, SESSION_EVENTS_MAX + 28),
    gone=st.sets(st.integers(0, SESSION_EVENTS_MAX + 27), max_size=40),
)
def test_of_more_records_than_a_session_has_events_the_last_ones_count(
    engine: Engine, stored: int, gone: set[int]
) -> None:
    kinds = (EventType.VIEW, EventType.SEARCH, EventType.ADD_TO_CART)
    events = [
        (kinds[n % 3], f"item-{n}", 2 * SESSION_WINDOW_MS if n in gone else stored - n, "lamp" if n % 3 == 1 else "")
        for n in range(stored)
    ]
    session = session_of(events)
    counting = SessionState(session.events[-SESSION_EVENTS_MAX:], session.version)
    data = pack_session(session)
    assert unpack_session(data) == counting
    visible = visible_session(counting, NOW_MS)
    assert scan_session(data, HORIZON_MS) == (len(visible.events), session.version)
    builder, query = ContextBuilder(engine, PipelineSettings()), RecommendQuery(session_id="s")
    plain, stored_state = ShopperState(visible), ShopperState(packed(session))
    assert stored_state == plain
    assert_same(builder.build(stored_state, query, NOW_MS), builder.build(plain, query, NOW_MS))


def session_of(events: list) -> SessionState:
    made = [
        SessionEvent(kind, item, NOW_MS - age_ms, NOW_MS - age_ms, n + 1, query)
        for n, (kind, item, age_ms, query) in enumerate(events)
    ]
    return SessionState(tuple(made), len(made))


def test_a_context_is_not_kept_when_a_packed_session_changes(engine: Engine) -> None:
    cache, builder = ContextCache(10_000_000), ContextBuilder(engine, PipelineSettings())
    query = RecommendQuery(session_id="s")
    before = ShopperState(packed(session_of([(EventType.VIEW, "item-1", 5, "")])))
    after = ShopperState(packed(session_of([(EventType.VIEW, "item-1", 5, ""), (EventType.VIEW, "item-2", 4, "")])))
    cache.put(query, before, NOW_MS, builder.build(before, query, NOW_MS))
    assert cache.get(query, before, NOW_MS) is not None
    assert cache.get(query, after, NOW_MS) is None
    # One event less in the window, without a new one.
    size_less = msgspec.structs.replace(before, session=SessionState(before.session.events[1:], before.session.version))
    assert cache.get(query, size_less, NOW_MS) is None


def in_turns_s(*runs: Callable[[], object], rounds: int = 100, times: int = 20) -> list[list[float]]:
    """How long each took in each round: a core is not as fast from one moment to the next."""
    found: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for times_s, run in zip(found, runs, strict=True):
            began_s = time.perf_counter()
            for _ in range(times):
                run()
            times_s.append((time.perf_counter() - began_s) / times)
    return found


@pytest.mark.benchmark
@pytest.mark.parametrize(("size", "gain_min"), [(5, 1.1), (20, 1.2), (100, 1.2)])
def test_a_packed_session_is_read_faster_than_structs(engine: Engine, size: int, gain_min: float) -> None:
    """From the bytes that Redis answered to the context."""
    builder, query = ContextBuilder(engine, PipelineSettings()), RecommendQuery(session_id="s")
    session = session_of([(EventType.VIEW, f"item-{n}", 1000 * (size - n), "") for n in range(size)])
    data = pack_session(session)

    def of_structs() -> Context:
        return builder.build(ShopperState(visible_session(unpack_session(data), NOW_MS)), query, NOW_MS)

    def in_place() -> Context:
        found, version = scan_session(data, HORIZON_MS)
        return builder.build(
            ShopperState(PackedSession(data, found, version, HORIZON_MS, unpack_session)), query, NOW_MS
        )

    assert_same(of_structs(), in_place())
    of_structs_s, in_place_s = in_turns_s(of_structs, in_place)
    gain = statistics.median(slow_s / fast_s for slow_s, fast_s in zip(of_structs_s, in_place_s, strict=True))
    slow_us, fast_us = (1e6 * min(found) for found in (of_structs_s, in_place_s))
    print(f"\n{size} events: {slow_us:.0f} us by structs, {fast_us:.0f} in place, x{gain:.2f}")
    assert gain >= gain_min
