"""Everything that can be wrong with a Redis, real and behind a proxy: an answer soon, and the right word for it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import redis

from recserv.errors import StoreUnavailable, UsageError
from recserv.stores.base import AppendEvent, AppendStatus
from recserv.stores.redis import RedisLimits, RedisStore
from recserv.stores.redis_faults import Fault
from recserv.stores.redis_keys import partition_of
from recserv.stores.redis_router import RedisTimeouts
from recserv.types import Event, EventType, ShopperKey
from tests.proxy import TcpProxy
from tests.redis_server import RedisServer, running_redis
from tests.stores.redis_support import PATIENT, logged
from tests.stores.support import START_MS, ManualClock, Recorder, make, put, read_one, statuses

KEY = [ShopperKey("session", "u")]
ACCEPTED, DUPLICATE, UNAVAILABLE = AppendStatus.ACCEPTED, AppendStatus.DUPLICATE, AppendStatus.UNAVAILABLE
OpenRedis = Callable[..., Awaitable[RedisStore]]


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    """Puts the settings right that a test turns."""
    with redis.Redis(port=server.port) as client:
        yield client
        client.replicaof("NO", "ONE")
        client.config_set("maxmemory", 0)
        client.config_set("min-replicas-to-write", 0)


@pytest.fixture
async def opened(hooks: Recorder, clock: ManualClock) -> AsyncIterator[OpenRedis]:
    stores: list[RedisStore] = []

    async def open_store(port: int, timeouts: RedisTimeouts = PATIENT, **settings: bool) -> RedisStore:
        limits = RedisLimits(timeouts=timeouts)
        store = RedisStore(f"redis://127.0.0.1:{port}", clock=clock, hooks=hooks, limits=limits, **settings)
        await store.open()
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        await store.close()


async def fault_of_read(store: RedisStore) -> str:
    with pytest.raises(Fault) as caught:
        await store.read("default", KEY)
    return caught.value.cause


# The server refuses


async def test_a_full_memory_refuses_events_whole_and_reads_go_on(
    opened: OpenRedis, server: RedisServer, admin: redis.Redis, hooks: Recorder
) -> None:
    store = await opened(server.port)
    await put(store, make("e1", "a"))
    admin.config_set("maxmemory", 1)
    assert statuses(await store.append("default", [make("e2", "b")])) == [UNAVAILABLE]
    assert hooks.unavailable == [(1, "oom")]
    assert [event.item_id for event in (await read_one(store)).session.events] == ["a"]
    admin.config_set("maxmemory", 0)
    await put(store, make("e2", "b"))
    assert [entry.append.event.event_id for entry in logged(admin)] == ["e1", "e2"]


async def test_a_replica_refuses_events_and_reads_go_on(
    opened: OpenRedis, server: RedisServer, admin: redis.Redis, hooks: Recorder, tmp_path: Path
) -> None:
    store = await opened(server.port)
    await put(store, make("e1", "a"))
    with running_redis(tmp_path) as primary:
        with redis.Redis(port=primary.port) as source:
            source.execute_command("RESTORE", "copied", 0, admin.dump(partition_of("default", "session").head))
        admin.replicaof("127.0.0.1", primary.port)
        assert statuses(await store.append("default", [make("e2", "b")])) == [UNAVAILABLE]
        assert hooks.unavailable == [(1, "readonly")]
        await store.read("default", KEY)
        admin.replicaof("NO", "ONE")
    await put(store, make("e3", "c"))


async def test_a_replica_whose_primary_is_gone_has_no_answer_to_reads(
    opened: OpenRedis, server: RedisServer, admin: redis.Redis, hooks: Recorder
) -> None:
    store = await opened(server.port)
    admin.config_set("replica-serve-stale-data", "no")
    admin.replicaof("127.0.0.1", 1)
    try:
        assert await fault_of_read(store) == "masterdown"
        assert hooks.read_failures == ["masterdown"]
    finally:
        admin.replicaof("NO", "ONE")
        admin.config_set("replica-serve-stale-data", "yes")
    await store.read("default", KEY)


async def test_too_few_replicas_refuse_events(
    opened: OpenRedis, server: RedisServer, admin: redis.Redis, hooks: Recorder
) -> None:
    store = await opened(server.port)
    admin.config_set("min-replicas-to-write", 1)
    assert statuses(await store.append("default", [make("e1")])) == [UNAVAILABLE]
    assert hooks.unavailable == [(1, "noreplicas")]


async def test_scripts_that_the_server_forgot_are_brought_again(
    opened: OpenRedis, server: RedisServer, admin: redis.Redis
) -> None:
    store = await opened(server.port)
    for number in range(3):
        await put(store, *[make(f"e{number}-{n}", session_id=f"s{n}", user_id="u") for n in range(5)])
        admin.script_flush()
    assert (await read_one(store, "", "u")).profile.event_count == 15


@pytest.mark.parametrize("which", ["session", "profile", "head", "log", "event_id"])
async def test_a_key_of_another_type_refuses_the_event_and_nothing_of_it_is_written(
    which: str, opened: OpenRedis, server: RedisServer, admin: redis.Redis, hooks: Recorder
) -> None:
    store = await opened(server.port)
    partition = partition_of("default", "session")
    if which == "event_id":
        await put(store, make("e1"))
        [key] = [key for key in admin.keys("*") if b":i:" in key]
        admin.flushall()
    else:
        keys = {"session": partition.session(b"ssession"), "profile": partition.profile(b"ssession")}
        key = keys.get(which) or getattr(partition, which)
    if which == "log":
        admin.set(key, "x")
    else:
        admin.rpush(key, "x")
    assert statuses(await store.append("default", [make("e1", kind=EventType.ADD_TO_CART)])) == [UNAVAILABLE]
    assert hooks.unavailable == [(1, "wrongtype")]
    assert admin.keys("*") == [key]
    # The rest of the shop is not touched.
    await put(store, make("e1", session_id="other"))
    admin.delete(key)
    await put(store, make("e1", kind=EventType.ADD_TO_CART))


@pytest.mark.parametrize("session_too", [True, False])
async def test_a_retry_completes_a_half_that_is_missing(
    session_too: bool, opened: OpenRedis, server: RedisServer, admin: redis.Redis, hooks: Recorder
) -> None:
    """The event is stored, its user's profile cannot be written; then it can."""
    store = await opened(server.port)
    add = EventType.ADD_TO_CART
    with_session = make("e1", "a", kind=add, user_id="u")
    events = [with_session] if session_too else [make("e0", "b", kind=add, session_id="", user_id="u"), with_session]
    profile = partition_of("default", "u").profile(b"uu")
    admin.rpush(profile, "x")
    assert statuses(await store.append("default", events)) == [UNAVAILABLE] * len(events)
    assert [event.item_id for event in (await read_one(store)).session.events] == ["a"]
    admin.delete(profile)
    # One by one: what an event was sent with the first time must not matter.
    for _ in range(3):
        for event in events:
            assert statuses(await store.append("default", [event])) == [DUPLICATE]
        state = await read_one(store, "", "u")
        assert (state.profile.event_count, sum(state.profile.cart.values())) == (len(events), len(events))
    assert len(logged(admin)) == len(events)


@pytest.mark.parametrize("garbage", [b"x", b"\x01" + b"\xff" * 60, b"\x02" + b"\0" * 60, b"\x01\0\x05\0" + b"\0" * 24])
async def test_what_cannot_be_decoded_is_counted_and_overwritten(
    garbage: bytes, opened: OpenRedis, server: RedisServer, admin: redis.Redis, hooks: Recorder
) -> None:
    store = await opened(server.port)
    partition = partition_of("default", "session")
    (first,) = await put(store, make("e1", "a", kind=EventType.ADD_TO_CART))
    admin.set(partition.session(b"ssession"), garbage)
    admin.set(partition.profile(b"ssession"), garbage)
    state = await read_one(store)
    assert (state.session.events, state.profile.cart, state.sequence) == ((), {}, first.sequence)
    assert sorted(hooks.undecodable) == [("profiles", 1), ("sessions", 1)]
    # Late, so that the script looks at every record.
    await put(store, make("e2", "b", kind=EventType.ADD_TO_CART, at=START_MS + 1, event_time_ms=5))
    await put(store, make("e3", "c", kind=EventType.PURCHASE, at=START_MS + 2))
    admin.set(partition.head, "x")
    await store.read("default", [ShopperKey("session")])
    assert ("heads", 1) in hooks.undecodable


# The server is away


async def test_a_refused_connection_is_answered_at_once(opened: OpenRedis, proxy: TcpProxy, hooks: Recorder) -> None:
    store = await opened(proxy.port)
    proxy.drop_connections()
    with proxy.broken(refuse=True):
        began_s = time.perf_counter()
        assert await fault_of_read(store) == "refused"
        assert statuses(await store.append("default", [make("e1")])) == [UNAVAILABLE]
        assert time.perf_counter() - began_s < PATIENT.connect_s
    assert (hooks.unavailable, hooks.read_failures) == ([(1, "refused")], ["refused"])
    await put(store, make("e1"))


async def test_a_silent_server_is_given_up_in_time_for_everybody_who_waits(
    opened: OpenRedis, proxy: TcpProxy, hooks: Recorder
) -> None:
    store = await opened(proxy.port, RedisTimeouts(connect_s=0.2, read_s=0.2, write_s=0.2))
    await put(store, make("e0"))
    await store.read("default", KEY)
    with proxy.broken(blackhole=True):
        began_s = time.perf_counter()
        writes = [asyncio.create_task(store.append("default", [make(f"e{n}")])) for n in range(1, 50)]
        reads = [asyncio.create_task(store.read("default", KEY)) for _ in range(50)]
        answers = await asyncio.gather(*reads, return_exceptions=True)
        assert {getattr(answer, "cause", None) for answer in answers} == {"timeout"}
        assert {result.status for [result] in await asyncio.gather(*writes)} == {UNAVAILABLE}
        # Not 5 s, which is what the client library would take by itself.
        assert time.perf_counter() - began_s < 2.0
    assert sum(events for events, _ in hooks.unavailable) == 49
    await asyncio.sleep(0.3)
    assert set(statuses(await store.append("default", [make(f"e{n}") for n in range(50)]))) <= {ACCEPTED, DUPLICATE}
    assert (await read_one(store)).profile.event_count == 50


async def test_garbage_on_the_wire_is_unavailable(opened: OpenRedis, proxy: TcpProxy, hooks: Recorder) -> None:
    store = await opened(proxy.port, RedisTimeouts(connect_s=1.0, read_s=0.3, write_s=0.3))
    await put(store, make("e0"))
    with proxy.broken(garbage=True):
        for _ in range(5):
            with pytest.raises(StoreUnavailable):
                await store.read("default", KEY)
            assert statuses(await store.append("default", [make("e1")])) == [UNAVAILABLE]
    assert set(hooks.read_failures) <= {"protocol", "timeout", "server_error", "connection_lost", "refused"}
    assert statuses(await store.append("default", [make("e1")]))[0] in (ACCEPTED, DUPLICATE)


async def test_connections_that_were_closed_meanwhile_cost_nobody_an_answer(
    opened: OpenRedis, proxy: TcpProxy, hooks: Recorder
) -> None:
    store = await opened(proxy.port)
    for number in range(5):
        await put(store, make(f"e{number}"))
        await store.read("default", KEY)
        proxy.drop_connections()
    assert (hooks.unavailable, hooks.read_failures) == ([], [])


async def test_a_server_that_loads_its_data_says_so(opened: OpenRedis, tmp_path: Path, hooks: Recorder) -> None:
    with running_redis(tmp_path) as server:
        store = await opened(server.port)
        await put(store, make("e0"))
        with server.client() as client:
            # Large and not to be compressed, so that the server looks up from its loading at every one of them.
            client.mset({f"k{n}": os.urandom(2048) for n in range(500)})
            client.execute_command("BGREWRITEAOF")
            while client.info("persistence")["aof_base_size"] < 500 * 2048:
                time.sleep(0.01)
        server.restart(["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"])
        assert await fault_of_read(store) == "loading"
        assert statuses(await store.append("default", [make("e1")])) == [UNAVAILABLE]
        assert hooks.unavailable == [(1, "loading")]
        with server.client() as client:
            client.config_set("key-load-delay", 0)
            async with asyncio.timeout(30):
                while client.info("persistence")["loading"]:
                    await asyncio.sleep(0.02)
        await put(store, make("e1"))


async def test_an_event_that_has_no_form_is_refused_and_does_not_hold_up_the_others(
    opened: OpenRedis, server: RedisServer, hooks: Recorder
) -> None:
    store = await opened(server.port)
    unhashed = [
        Event(event_id="no text", event_type=EventType.VIEW, session_id="session", item_id="\ud800"),
        Event(event_id="large", event_type=EventType.VIEW, session_id="session", quantity=2**70),
    ]
    strange = [
        make("no type", kind=EventType.UNSPECIFIED),
        make("long", "x" * 70_000),
        *[AppendEvent(event, bytes(16), START_MS, START_MS) for event in unhashed],
    ]
    results = await store.append("default", [make("e1"), *strange, make("e2")])
    assert statuses(results) == [ACCEPTED, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, ACCEPTED]
    assert hooks.unavailable == [(4, "not_encodable")]
    assert all("cannot be encoded" in result.error for result in results[1:5])
    await store.read("default", [ShopperKey("\ud800", "\ud800")])


# Opening


async def test_a_server_that_is_away_is_unavailable_and_not_a_mistake(opened: OpenRedis, proxy: TcpProxy) -> None:
    with proxy.broken(refuse=True), pytest.raises(StoreUnavailable):
        await opened(proxy.port)


async def test_durability_is_refused_where_it_is_not_given(
    opened: OpenRedis, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UsageError, match="appendfsync is no"):
        await opened(server.port, require_durable=True)
    await opened(server.port)
    assert "appendfsync is no" in caplog.text
    with redis.Redis(port=server.port) as client:
        client.config_set("appendfsync", "always")
        client.config_set("maxmemory-policy", "volatile-lru")
        with pytest.raises(UsageError, match="volatile-lru"):
            await opened(server.port, require_durable=True)
        client.config_set("maxmemory-policy", "noeviction")
        await opened(server.port, require_durable=True)
        client.config_set("appendfsync", "no")


async def test_a_server_that_hides_its_settings_is_warned_of(
    opened: OpenRedis, server: RedisServer, hooks: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis(port=server.port) as client:
        client.acl_setuser("shy", enabled=True, passwords=["+p%w"], keys=["*"], commands=["+@all", "-config"])
        url = f"redis://shy:p%25w@127.0.0.1:{server.port}"
        store = RedisStore(url, hooks=hooks)
        await store.open()
        await put(store, make("e1"))
        await store.close()
        assert "CONFIG GET is not allowed" in caplog.text
        with pytest.raises(UsageError, match="CONFIG GET"):
            await RedisStore(url, require_durable=True).open()
        with pytest.raises(Fault) as caught:
            await RedisStore(url.replace("p%25w", "wrong")).open()
        assert caught.value.cause == "auth"
        assert "wrong" not in str(caught.value)
        client.acl_deluser("shy")
