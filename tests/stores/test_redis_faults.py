"""Everything that can be wrong with a Redis, real and behind a proxy: an answer soon, and the right word for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from recserv.errors import StoreUnavailable, UsageError
from recserv.stores import redis_link
from recserv.stores.base import AppendEvent, AppendStatus
from recserv.stores.redis import RedisLimits, RedisStore
from recserv.stores.redis_faults import Fault
from recserv.stores.redis_keys import partition_of
from recserv.stores.redis_link import LinkTimeouts, RedisLink
from recserv.stores.redis_router import RedisTimeouts
from recserv.stores.redis_token_key import KEY as TOKEN_KEY
from recserv.types import Event, EventType, ShopperKey
from tests.patience import HANG_GUARD_S, eventually, eventually_async
from tests.proxy import TcpProxy
from tests.redis_server import RedisServer, running_redis
from tests.stores.redis_support import PATIENT, logged
from tests.stores.support import START_MS, ManualClock, Recorder, make, put, read_one, statuses

KEY = [ShopperKey("session", "u")]
ACCEPTED, DUPLICATE, UNAVAILABLE = AppendStatus.ACCEPTED, AppendStatus.DUPLICATE, AppendStatus.UNAVAILABLE
OpenRedis = Callable[..., Awaitable[RedisStore]]
SOON = LinkTimeouts(connect_s=0.05, exchange_s=0.05)
READ_S, WRITE_S = HANG_GUARD_S + 1, HANG_GUARD_S + 2
LOAD_DELAY_S = 0.02


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


@contextmanager
def given_up_soon(store: RedisStore) -> Iterator[None]:
    """For a server that never answers: the connections that there are wait no longer for it than they must."""
    lanes = [*store._router._reads.values(), *store._router._writes.values()]
    before = [(link, link._timeouts) for lane in lanes for link in lane._links]
    assert before
    for link, _ in before:
        link._timeouts = SOON
    yield
    for link, timeouts in before:
        link._timeouts = timeouts


class Limits:
    """The limits of time that connections set themselves, as they began, to be run out of by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.set_s: list[float] = []
        self._timeouts: list[asyncio.Timeout] = []
        monkeypatch.setattr(redis_link, "asyncio", SimpleNamespace(**{**vars(asyncio), "timeout": self._timeout}))

    def _timeout(self, seconds: float) -> asyncio.Timeout:
        self.set_s.append(seconds)
        self._timeouts.append(asyncio.timeout(seconds))
        return self._timeouts[-1]

    def run_out(self) -> None:
        for timeout in self._timeouts:
            timeout.reschedule(0.0)


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
    assert set(admin.keys("*")) - {TOKEN_KEY} == {key}
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


async def test_a_refused_connection_is_answered_at_once(
    opened: OpenRedis, proxy: TcpProxy, hooks: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried once for each, and its answer is the refusal itself, not the end of a wait."""
    connects: list[RedisLink] = []
    connect = RedisLink._connect

    async def counted(link: RedisLink) -> None:
        connects.append(link)
        await connect(link)

    store = await opened(proxy.port)
    await put(store, make("e0"))
    await store.read("default", KEY)
    proxy.drop_connections()
    monkeypatch.setattr(RedisLink, "_connect", counted)
    with proxy.broken(refuse=True):
        assert await fault_of_read(store) == "refused"
        assert len(connects) == 1
        assert statuses(await store.append("default", [make("e1")])) == [UNAVAILABLE]
        assert len(connects) == 2
    assert (hooks.unavailable, hooks.read_failures) == ([(1, "refused")], ["refused"])
    await put(store, make("e1"))


async def test_a_silent_server_is_given_up_in_time_for_everybody_who_waits(
    opened: OpenRedis, proxy: TcpProxy, hooks: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those whose batch is under way and those who queue behind it: one limit of time is all that they wait for."""
    store = await opened(proxy.port, RedisTimeouts(connect_s=HANG_GUARD_S, read_s=READ_S, write_s=WRITE_S))
    await put(store, make("e0"))
    await store.read("default", KEY)
    limits = Limits(monkeypatch)
    with proxy.broken(blackhole=True):
        writes = [asyncio.create_task(store.append("default", [make("e1")]))]
        reads = [asyncio.create_task(store.read("default", KEY))]
        await eventually_async(lambda: len(limits.set_s) == 2, "a batch of each is under way")
        writes += [asyncio.create_task(store.append("default", [make(f"e{n}")])) for n in range(2, 50)]
        reads += [asyncio.create_task(store.read("default", KEY)) for _ in range(49)]
        await eventually_async(lambda: store.queued_events == 49, "the others queue")
        limits.run_out()
        answers = await asyncio.gather(*reads, return_exceptions=True)
        assert {getattr(answer, "cause", None) for answer in answers} == {"timeout"}
        assert {result.status for [result] in await asyncio.gather(*writes)} == {UNAVAILABLE}
    assert sorted(limits.set_s) == [READ_S, WRITE_S]
    assert hooks.unavailable == [(1, "timeout")] * 49
    assert set(statuses(await store.append("default", [make(f"e{n}") for n in range(50)]))) <= {ACCEPTED, DUPLICATE}
    assert (await read_one(store)).profile.event_count == 50


async def test_garbage_on_the_wire_is_unavailable(opened: OpenRedis, proxy: TcpProxy, hooks: Recorder) -> None:
    store = await opened(proxy.port)
    await put(store, make("e0"))
    await store.read("default", KEY)
    # Of some garbage there seems to be more to come.
    with proxy.broken(garbage=True), given_up_soon(store):
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
            keys = round(HANG_GUARD_S / LOAD_DELAY_S)
            client.mset({f"k{n}": os.urandom(1200) for n in range(keys)})
            client.execute_command("BGREWRITEAOF")
            eventually(lambda: client.info("persistence")["aof_base_size"] > keys * 1200, "all is in the base file")
        delay = ["--key-load-delay", str(round(LOAD_DELAY_S * 1_000_000))]
        server.restart([*delay, "--loading-process-events-interval-bytes", "1024"])
        assert await fault_of_read(store) == "loading"
        assert statuses(await store.append("default", [make("e1")])) == [UNAVAILABLE]
        assert hooks.unavailable == [(1, "loading")]
        with server.client() as client:
            client.config_set("key-load-delay", 0)
            await eventually_async(lambda: not client.info("persistence")["loading"], "the server has its data")
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
        limits = RedisLimits(timeouts=PATIENT)
        store = RedisStore(url, hooks=hooks, limits=limits)
        await store.open()
        await put(store, make("e1"))
        await store.close()
        assert "CONFIG GET is not allowed" in caplog.text
        with pytest.raises(UsageError, match="CONFIG GET"):
            await RedisStore(url, limits=limits, require_durable=True).open()
        with pytest.raises(Fault) as caught:
            await RedisStore(url.replace("p%25w", "wrong"), limits=limits).open()
        assert caught.value.cause == "auth"
        assert "wrong" not in str(caught.value)
        client.acl_deluser("shy")
