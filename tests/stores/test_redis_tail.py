"""Other services read the event log: a consumer group shares it, and outlives a consumer that dies."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import redis

from recserv.stores.redis import RedisLimits, RedisStore
from recserv.stores.redis_faults import Fault
from recserv.stores.redis_keys import PARTITIONS, partition_of
from recserv.stores.redis_tail import ENTRIES_A_PARTITION, RedisLogTail, TailedEntry
from tests.patience import HANG_GUARD_S, TEST_GUARD_S
from tests.project_files import ROOT
from tests.redis_server import RedisServer
from tests.stores.redis_support import PATIENT
from tests.stores.support import START_MS, ManualClock, make, put
from tests.stores.tracing import python


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[RedisStore]:
    limits = RedisLimits(timeouts=PATIENT, log_entries_max=200)
    store = RedisStore(redis_server.url, clock=ManualClock(), limits=limits)
    await store.open()
    yield store
    await store.close()


async def opened(server: RedisServer, consumer: str = "one", group: str = "warehouse") -> RedisLogTail:
    tail = RedisLogTail(server.url, tenant="default", group=group, consumer=consumer, timeouts=PATIENT)
    await tail.open()
    return tail


async def read_all(tail: RedisLogTail) -> list[TailedEntry]:
    found: list[TailedEntry] = []
    while batch := await tail.read():
        found += batch
    return found


def ids_of(entries: list[TailedEntry]) -> list[str]:
    return [tailed.entry.append.event.event_id for tailed in entries]


async def test_a_group_sees_every_event_once_and_each_partition_in_order(
    store: RedisStore, redis_server: RedisServer
) -> None:
    tail = await opened(redis_server)
    assert await tail.read() == []
    appends = [make(f"e{n}", f"i{n}", session_id=f"s{n % 7}", user_id="u" if n % 2 else "") for n in range(300)]
    await put(store, *appends)
    found = await read_all(tail)
    assert Counter(ids_of(found)) == Counter(append.event.event_id for append in appends)
    by_id = {append.event.event_id: append for append in appends}
    assert all(tailed.entry.append == by_id[tailed.entry.append.event.event_id] for tailed in found)
    last: dict[bytes, int] = {}
    for tailed in found:
        assert tailed.entry.sequence > last.get(tailed.partition.prefix, 0)
        last[tailed.partition.prefix] = tailed.entry.sequence
    await tail.acknowledge(found)
    await put(store, make("later"))
    assert ids_of(await read_all(tail)) == ["later"]
    other = await opened(redis_server, group="fraud")
    assert len(await read_all(other)) == 301
    await tail.close()
    await other.close()


async def test_two_consumers_share_the_log(store: RedisStore, redis_server: RedisServer) -> None:
    await put(store, *[make(f"e{n}", session_id=f"s{n % 3}") for n in range(6 * ENTRIES_A_PARTITION)])
    one, two = await opened(redis_server, "one"), await opened(redis_server, "two")
    mine, others = ids_of(await one.read()), ids_of(await two.read())
    assert mine
    assert others
    assert not set(mine) & set(others)
    await one.close()
    await two.close()


async def test_what_a_dead_consumer_was_given_is_claimed_by_another(
    store: RedisStore, redis_server: RedisServer
) -> None:
    """The consumer is a process, killed between reading and acknowledging."""
    await put(store, *[make(f"e{n}", session_id=f"s{n % 5}") for n in range(50)])
    dying = await asyncio.create_subprocess_exec(
        *python("tests.stores.dying_consumer", redis_server.url), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert dying.stdout is not None
    try:
        async with asyncio.timeout(HANG_GUARD_S):
            given = (await dying.stdout.readline()).decode().split()
    finally:
        dying.send_signal(signal.SIGKILL)
        await dying.wait()
    assert len(given) == 50
    heir = await opened(redis_server, "heir")
    assert await heir.read() == []
    assert await heir.claim_idle(round(TEST_GUARD_S * 1000)) == []
    claimed = await heir.claim_idle(0)
    assert sorted(ids_of(claimed)) == sorted(given)
    await heir.acknowledge(claimed)
    assert await heir.claim_idle(0) == []
    await heir.close()


async def test_entries_that_are_none_of_ours_are_counted_and_do_not_come_back(
    store: RedisStore, redis_server: RedisServer
) -> None:
    await put(store, make("e0"))
    with redis.Redis(port=redis_server.port) as client:
        client.xadd(partition_of("default", "session").log, {"body": b"\xff", "seq": "1", "at": "x"})
    tail = await opened(redis_server)
    found = await read_all(tail)
    assert (ids_of(found), tail.undecodable) == (["e0"], 1)
    await tail.acknowledge(found)
    assert await tail.claim_idle(0) == []
    await tail.close()


async def test_partitions_without_a_log_are_asked_for_once(redis_server: RedisServer) -> None:
    tail = await opened(redis_server)
    assert await tail.read() == []
    with redis_server.client() as client:
        assert client.info("commandstats")["cmdstat_xreadgroup"]["calls"] == PARTITIONS
    await tail.close()


async def test_a_group_that_another_consumer_was_faster_to_make_is_read(
    store: RedisStore, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, make("e0"))
    tail = await opened(redis_server)
    ask = tail._ask

    async def overtaken(commands):
        commands = list(commands)
        if commands and commands[0][1][0] == "XGROUP":
            with redis_server.client() as client:
                client.xgroup_create(partition_of("default", "session").log, "warehouse", "0")
        return await ask(commands)

    monkeypatch.setattr(tail, "_ask", overtaken)
    assert ids_of(await tail.read()) == ["e0"]
    await tail.close()


async def test_an_entry_that_was_trimmed_since_it_was_given_out_is_left_out(redis_server: RedisServer) -> None:
    """Redis 6.2 answers nil for it; later ones say nothing of it."""
    tail = await opened(redis_server)
    assert await tail._decoded(partition_of("default", "session"), [None]) == []
    await tail.close()


async def test_what_is_wrong_with_a_log_keeps_its_name(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.set(partition_of("default", "session").log, "x")
    tail = await opened(redis_server)
    with pytest.raises(Fault) as caught:
        await tail.read()
    assert caught.value.cause == "wrongtype"
    await tail.close()


async def test_the_log_is_bounded_in_number_and_in_age(store: RedisStore, redis_server: RedisServer) -> None:
    log = partition_of("default", "session").log
    with redis.Redis(port=redis_server.port) as client:
        client.xadd(log, {"body": b"old"}, id="1000-0")
        for start in range(0, 1000, 50):
            await put(store, *[make(f"e{n}", at=START_MS + n) for n in range(start, start + 50)])
        # `~` leaves whole nodes of the stream, of a hundred entries by default.
        assert 200 <= client.xlen(log) <= 400
        assert client.xrange(log, count=1)[0][0] != b"1000-0"
        assert 0 < client.pttl(log) <= 8 * 24 * 3600 * 1000


def test_the_command_prints_each_event_once_as_json(redis_server: RedisServer) -> None:
    async def write() -> None:
        store = RedisStore(redis_server.url, limits=RedisLimits(timeouts=PATIENT))
        await store.open()
        await put(store, *[make(f"e{n}", f"i{n}", session_id=f"s{n}") for n in range(20)])
        await store.close()

    asyncio.run(write())
    guard_ms = str(round(HANG_GUARD_S * 1000))
    patience = ("--redis-connect-timeout-ms", guard_ms, "--redis-write-timeout-ms", guard_ms)
    command = python("recserv", "tail", "--state", redis_server.url, "--group", "g", "--once", *patience)
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_GUARD_S)
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert sorted(line["event"]["event_id"] for line in lines) == sorted(f"e{n}" for n in range(20))
    assert {line["arrival_ms"] for line in lines} == {START_MS}
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_GUARD_S)
    assert (again.returncode, again.stdout) == (0, "")
