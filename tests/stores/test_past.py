from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recserv.stores.embedded import EmbeddedStore
from recserv.stores.past import PastResult
from recserv.stores.redis import RedisStore
from recserv.stores.redis_keys import partition_of, user_name
from recserv.stores.redis_past import ROUNDS_MAX
from recserv.types import Event, EventType, Profile, ShopperKey
from tests.redis_server import RedisServer
from tests.stores.past_contract import (
    KINDS,
    RETENTION_DAYS,
    PastContract,
    a_life,
    assert_same,
    live,
    past_event,
    past_of,
    profile_of,
)
from tests.stores.redis_support import RedisBackend
from tests.stores.support import DAY_MS, START_MS, Backend, ManualClock, OpenStore, make, put
from tests.stores.test_embedded_contract import EmbeddedBackend
from tests.stores.test_embedded_machine import MEMORY


@contextmanager
def in_memory() -> Iterator[Path]:
    """Syncing events one by one to a disk would be most of the time, and is not what is tested here."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        yield Path(directory)


class TestEmbeddedPast(PastContract):
    @pytest.fixture
    def backend(self) -> Iterator[EmbeddedBackend]:
        with in_memory() as directory:
            yield EmbeddedBackend(directory)


class TestRedisPast(PastContract):
    @pytest.fixture
    def backend(self, server: RedisServer) -> RedisBackend:
        return RedisBackend(server.url)


async def test_sweeping_a_profile_lets_its_past_be_imported_again(opened: OpenStore, clock: ManualClock) -> None:
    """Else a profile that was swept, or purged, could never be imported again."""
    store: EmbeddedStore = await opened()
    past = past_of([past_event(1, "a", START_MS)])
    await store.import_pasts("default", [past])
    clock.advance(RETENTION_DAYS * DAY_MS + 1)
    assert len((await store.sweep()).profile_keys) == 1
    clock.now_ms = START_MS
    assert await store.import_pasts("default", [past]) == [PastResult(added=1)]


async def test_events_get_no_sequence_that_a_profile_has(opened: OpenStore) -> None:
    """An event whose sequence its profile already has would change nothing."""
    store: EmbeddedStore = await opened()
    await store.import_pasts("default", [past_of([past_event(1, "a", START_MS)], f"u{n}") for n in range(5)])
    [result] = await put(store, make("live", session_id="s", user_id="u4"))
    [state] = await store.read("default", [ShopperKey("s", "u4")])
    assert result.sequence == 6
    assert (state.profile.sequence, state.profile.event_count) == (6, 2)


async def test_a_file_of_which_nothing_was_imported_is_as_it_was(opened: OpenStore, path: Path) -> None:
    """A release that knows of no imports finds nothing that it does not know."""
    store: EmbeddedStore = await opened()
    await put(store, make("live"))
    await store.close()
    assert b"imported" not in path.read_bytes()


@pytest.fixture
async def redis_store(server: RedisServer, clock: ManualClock) -> RedisStore:
    return await RedisBackend(server.url).start(clock)


async def test_an_event_between_reading_and_writing_is_not_lost(
    redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script refuses what was folded over an older profile, and the second round has the event."""
    router = redis_store._router
    raced = False

    async def finish(slot: int, call: object, *, write: bool) -> object:
        nonlocal raced
        answer = await found(slot, call, write=write)  # type: ignore[arg-type]
        if not write and not raced:
            raced = True
            await put(redis_store, make("live", "b", kind=EventType.PURCHASE, session_id="", user_id="u"))
        return answer

    found = router.finish
    monkeypatch.setattr(router, "finish", finish)
    try:
        past = past_of([past_event(1, "a", START_MS - DAY_MS)])
        assert await redis_store.import_pasts("default", [past]) == [PastResult(added=1)]
        profile = await profile_of(redis_store)
        assert raced
        assert [p.item_id for p in profile.purchases] == ["a", "b"]
        assert profile.event_count == 2
    finally:
        await redis_store.close()


async def test_what_an_import_leaves_in_redis_expires_with_the_last_event(
    redis_store: RedisStore, server: RedisServer
) -> None:
    try:
        await redis_store.import_pasts("default", [past_of(a_life(10))])
        newest_ms = max(event.event_time_ms or 0 for event in a_life(10))
        partition, name = partition_of("default", "u"), user_name("u")
        with server.client() as client:
            for key in (partition.profile(name), partition.history(name)):
                left = client.pttl(key)
                kept = newest_ms + RETENTION_DAYS * DAY_MS - START_MS
                assert kept - DAY_MS < left <= kept
            tags = {key.partition("}")[0] for key in client.keys("{default:*")}
        assert len(tags) == 1
    finally:
        await redis_store.close()


async def test_users_of_one_call_are_written_by_a_script_each(redis_store: RedisStore, server: RedisServer) -> None:
    try:
        with server.client() as client:
            await redis_store.import_pasts("default", [past_of(a_life(3), "warm")])
            client.config_resetstat()
            await redis_store.import_pasts("default", [past_of(a_life(30), f"u{number}") for number in range(8)])
            calls = {name: stats["calls"] for name, stats in client.info("commandstats").items()}
        assert calls["cmdstat_evalsha"] == 8
        assert calls["cmdstat_mget"] == 8
    finally:
        await redis_store.close()


@st.composite
def lives(draw: st.DrawFn) -> list[Event]:
    """What one user did over weeks, in any order, in sessions and outside of them; most of it with few items."""
    events = []
    for number in range(draw(st.integers(1, 16))):
        kind = draw(st.sampled_from(KINDS))
        events.append(
            Event(
                event_id=f"e{number}",
                event_type=kind,
                user_id="u",
                session_id=draw(st.sampled_from(["", "s1", "s2"])),
                item_id="" if kind == EventType.SEARCH else f"i{draw(st.integers(0, 6))}",
                quantity=draw(st.integers(0, 3)),
                value=draw(st.sampled_from([0.0, 1.0, 2.0, 3.5, 5.0])),
                search_query="shoes" if kind == EventType.SEARCH else "",
                event_time_ms=START_MS - draw(st.integers(DAY_MS, 60 * DAY_MS)),
            )
        )
    return sorted(events, key=lambda event: event.event_time_ms or 0)


async def lived_and_imported(backend: Backend, events: list[Event], parts: int) -> tuple[Profile, Profile]:
    clock = ManualClock()
    store = await backend.start(clock)
    try:
        await live(store, clock, [msgspec.structs.replace(event, user_id="live") for event in events])  # type: ignore[arg-type]
        for part in range(parts):
            end = len(events) * (part + 1) // parts
            await store.import_pasts("default", [past_of(events[:end])])  # type: ignore[attr-defined]
        return await profile_of(store, "live"), await profile_of(store, "u")  # type: ignore[arg-type]
    finally:
        await store.close()


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(events=lives(), parts=st.integers(1, 3))
def test_imported_in_files_that_overlap_or_lived_the_profile_is_the_same_in_both_stores(
    unsynced_redis: RedisServer, events: list[Event], parts: int
) -> None:
    with unsynced_redis.client() as client:
        client.flushall()
    with in_memory() as directory:
        embedded = asyncio.run(lived_and_imported(EmbeddedBackend(directory), events, parts))
    of_redis = asyncio.run(lived_and_imported(RedisBackend(unsynced_redis.url), events, parts))
    assert_same(embedded[1], embedded[0])
    assert_same(of_redis[1], of_redis[0])
    assert_same(of_redis[1], embedded[1])


async def test_beside_a_server_that_writes_the_same_profiles_nothing_of_either_is_lost(
    server: RedisServer, clock: ManualClock
) -> None:
    serving, importing = await RedisBackend(server.url).start(clock), await RedisBackend(server.url).start(clock)
    users = [f"u{number}" for number in range(6)]
    events = ROUNDS_MAX - 1  # Each costs the import a round at most.

    async def serve() -> None:
        for number in range(events):
            live = [
                make(f"live-{number}", f"l{number}", kind=EventType.PURCHASE, session_id=f"s{user}", user_id=user)
                for user in users
            ]
            await put(serving, *live)

    async def bring_in() -> None:
        for number in range(events):
            event = past_event(number, f"p{number}", START_MS - 2 * DAY_MS)
            await importing.import_pasts("default", [past_of([event], user) for user in users])

    try:
        await asyncio.gather(serve(), bring_in())
        for user in users:
            profile = await profile_of(serving, user)
            assert profile.event_count == 2 * events
            assert len(profile.purchases) == 2 * events
    finally:
        await serving.close()
        await importing.close()
