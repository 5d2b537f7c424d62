"""One suite for every explanation store: in memory and in Redis, two workers on what they share."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from recserv.errors import StoreUnavailable
from recserv.stores import explanations_base, explanations_redis
from recserv.stores.explanations_base import LEASE_S, Outcome, Post, PostedJob
from recserv.stores.explanations_memory import MemoryExplanationStore, Shelf
from recserv.stores.explanations_redis import RedisExplanationStore
from recserv.types import DAY_MS, wall_clock_ms
from tests.redis_server import RedisServer
from tests.stores.redis_support import PATIENT
from tests.stores.support import MINUTE_MS, ManualClock

LEASE_MS = round(LEASE_S * 1000)
TTL_S = 10_000
KEYS = [bytes([n]) * 16 for n in range(4)]
DAY, MINUTE = 10_000, 5_000

Make = Callable[..., Any]


SERVERS_TIME = "redis.call('TIME')"
TIME_OF_A_KEY = "{0, redis.call('GET', 'now_ms') * 1000}"


class RedisClock(ManualClock):
    """Redis with a clock to turn by hand: the script takes its time from a key, and what would have expired on the way
    does.
    """

    def __init__(self, server: RedisServer):
        super().__init__()
        self._server = server
        self.advance(0)

    def advance(self, span_ms: int) -> None:
        super().advance(span_ms)
        with self._server.client() as client:
            client.set("now_ms", self.now_ms)
            for key in client.keys("{explain}:*"):
                left_ms = client.pttl(key)
                if left_ms >= 0:
                    # No time is left: it is gone at once.
                    client.pexpire(key, max(left_ms - span_ms, 0))


@pytest.fixture(params=["memory", "redis"])
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """What both kinds of store go by."""
    if request.param == "memory":
        return ManualClock()
    script = explanations_redis.SCRIPT.decode()
    assert script.count(SERVERS_TIME) == 1
    turned = script.replace(SERVERS_TIME, TIME_OF_A_KEY).encode()
    monkeypatch.setattr(explanations_redis, "SCRIPT", turned)
    monkeypatch.setattr(explanations_redis, "_SHA", hashlib.sha1(turned, usedforsecurity=False).hexdigest())
    return RedisClock(request.getfixturevalue("server"))


@pytest.fixture
async def make(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Make]:
    """Makes workers by name, all on one shared store."""
    made: list[Any] = []
    shelf = Shelf()

    async def make(name: str, **options: Any) -> Any:
        store: Any
        if isinstance(clock, RedisClock):
            store = RedisExplanationStore(request.getfixturevalue("server").url, PATIENT, worker=name, **options)
        else:
            store = MemoryExplanationStore(clock, shelf=shelf, worker=name, **options)
        await store.open()
        made.append(store)
        return store

    yield make
    for store in made:
        await store.close()


def job(name: str, payload: bytes = b"payload") -> PostedJob:
    return PostedJob(name, "default", payload)


async def outlive(clock: ManualClock, *stores: Any) -> None:
    """A lease's time goes by, in which these workers say that they live."""
    for _ in range(2):
        clock.advance(LEASE_MS // 2)
        for store in stores:
            await store.beat()


async def test_a_token_is_known_to_every_worker_of_its_tenant(make: Make) -> None:
    one, two = await make("one"), await make("two")
    await one.publish([Post("default", "token-1", b"record\x00\xff"), Post("default", "token-2", b"other")])
    assert await two.token("default", "token-1") == b"record\x00\xff"
    assert await one.token("default", "token-2") == b"other"
    assert await two.token("another", "token-1") is None
    assert await two.token("default", "token-3") is None


async def test_a_token_ends_by_itself(make: Make, clock: ManualClock) -> None:
    one = await make("one", token_ttl_s=TTL_S)
    await one.publish([Post("default", "token", b"record")])
    clock.advance(900 * TTL_S)
    assert await one.token("default", "token") == b"record"
    clock.advance(100 * TTL_S)
    assert await one.token("default", "token") is None


async def test_a_key_is_claimed_by_one_worker_at_a_time(make: Make) -> None:
    one, two = await make("one"), await make("two")
    assert [claim.mine for claim in await one.claim("default", KEYS[:2])] == [True, True]
    assert [claim.mine for claim in await two.claim("default", KEYS[:3])] == [False, False, True]
    assert [claim.mine for claim in await one.claim("default", KEYS[:3])] == [True, True, False]
    assert [claim.mine for claim in await two.claim("another", KEYS[:1])] == [True]


async def test_a_text_is_found_instead_of_claimed(make: Make) -> None:
    one, two = await make("one"), await make("two")
    await one.claim("default", KEYS[:2])
    await one.settle("default", "job", [(KEYS[0], Outcome("Für dich — schön", ready_ms=7))], done=False)
    first, second = await two.claim("default", KEYS[:2])
    assert (first.mine, first.text) == (False, "Für dich — schön")
    assert (second.mine, second.text) == (False, "")
    known = await two.outcomes("default", [KEYS[0], KEYS[3]])
    assert known == [Outcome("Für dich — schön", ready_ms=7), Outcome()]


async def test_a_text_is_kept_for_its_time(make: Make, clock: ManualClock) -> None:
    one = await make("one", cache_ttl_s=TTL_S)
    await one.settle("default", "job", [(KEYS[0], Outcome("text", ready_ms=1))], done=True)
    clock.advance(900 * TTL_S)
    assert await one.outcomes("default", KEYS[:1]) == [Outcome("text", ready_ms=1)]
    clock.advance(100 * TTL_S)
    assert await one.outcomes("default", KEYS[:1]) == [Outcome()]


async def test_a_failure_is_kept_for_as_long_as_a_token(make: Make, clock: ManualClock) -> None:
    one = await make("one", token_ttl_s=TTL_S)
    await one.settle("default", "job", [(KEYS[0], Outcome(failed_ms=5, cause=4))], done=True)
    clock.advance(900 * TTL_S)
    assert await one.outcomes("default", KEYS[:1]) == [Outcome(failed_ms=5, cause=4)]
    clock.advance(100 * TTL_S)
    assert await one.outcomes("default", KEYS[:1]) == [Outcome()]


async def test_a_failure_frees_the_claim_and_is_remembered_beside_a_later_text(make: Make) -> None:
    one, two = await make("one"), await make("two")
    await one.claim("default", KEYS[:1])
    await one.settle("default", "job", [(KEYS[0], Outcome(failed_ms=5, cause=4))], done=True)
    assert await two.outcomes("default", KEYS[:1]) == [Outcome(failed_ms=5, cause=4)]
    assert [claim.mine for claim in await two.claim("default", KEYS[:1])] == [True]
    await two.settle("default", "job-2", [(KEYS[0], Outcome("text", ready_ms=9))], done=True)
    [outcome] = await one.outcomes("default", KEYS[:1])
    assert (outcome.text, outcome.ready_ms, outcome.failed_ms) == ("text", 9, 5)


async def test_a_failure_does_not_take_a_text_away(make: Make) -> None:
    one = await make("one")
    await one.settle("default", "job", [(KEYS[0], Outcome("text", ready_ms=3))], done=True)
    await one.settle("default", "job", [(KEYS[0], Outcome(failed_ms=5, cause=4))], done=True)
    [outcome] = await one.outcomes("default", KEYS[:1])
    assert outcome.text == "text"


async def test_jobs_of_a_worker_that_lives_are_nobody_elses(make: Make, clock: ManualClock) -> None:
    one, two = await make("one"), await make("two")
    await one.publish([Post("default", "", b"", (job("a"),))])
    await outlive(clock, one)
    await outlive(clock, one)
    clock.advance(LEASE_MS - 1)
    assert await two.orphans(10) == []
    clock.advance(1)
    assert [posted.job_id for posted in await two.orphans(10)] == ["a"]


async def test_jobs_and_claims_of_a_dead_worker_are_taken_over_once(make: Make, clock: ManualClock) -> None:
    one, two, three = await make("one"), await make("two"), await make("three")
    await one.claim("default", KEYS[:1])
    await one.publish(
        [Post("default", "", b"", (job("a", b"1"), job("b", b"2"))), Post("default", "", b"", (job("c"),))]
    )
    await one.settle("default", "b", [], done=True)
    await outlive(clock, two, three)
    taken = await two.orphans(10)
    assert sorted((posted.job_id, posted.payload, posted.takeovers) for posted in taken) == [
        ("a", b"1", 1),
        ("c", b"payload", 1),
    ]
    assert await three.orphans(10) == []
    assert [claim.mine for claim in await three.claim("default", KEYS[:1])] == [True]
    await outlive(clock, three)
    again = await three.orphans(10)
    assert sorted((posted.job_id, posted.takeovers) for posted in again) == [("a", 2), ("c", 2)]


async def test_takeovers_are_limited_in_number_at_once_and_over_all(make: Make) -> None:
    names = ["one", "two", "three", "four"]
    assert explanations_base.TAKEOVERS_MAX == 2
    workers = [await make(name) for name in names]
    await workers[0].publish([Post("default", "", b"", tuple(job(f"j{n}") for n in range(5)))])
    await workers[0].close()
    assert len(await workers[1].orphans(3)) == 3
    assert len(await workers[1].orphans(3)) == 2
    await workers[1].close()
    assert len(await workers[2].orphans(10)) == 5
    await workers[2].close()
    assert await workers[3].orphans(10) == []


async def test_closing_gives_the_lease_up_at_once(make: Make) -> None:
    one, two = await make("one"), await make("two")
    await one.publish([Post("default", "", b"", (job("a"),))])
    await one.close()
    assert [posted.job_id for posted in await two.orphans(10)] == ["a"]


async def test_a_budget_is_one_for_all_workers(make: Make) -> None:
    one, two = await make("one"), await make("two")
    first = await one.reserve(3_000, DAY, MINUTE)
    assert first
    assert await two.reserve(2_001, DAY, MINUTE) == ""
    assert await two.reserve(2_000, DAY, MINUTE)
    assert await one.reserve(1, DAY, MINUTE) == ""
    await one.settle_spend(first, 3_000, 500)
    assert await two.reserve(2_500, DAY, MINUTE)
    assert await two.reserve(1, DAY, MINUTE) == ""


async def test_a_minute_and_a_day_later_there_is_a_budget_again(make: Make, clock: ManualClock) -> None:
    one = await make("one")
    clock.advance(-clock() % DAY_MS)
    old = await one.reserve(MINUTE, DAY, MINUTE)
    clock.advance(MINUTE_MS - 1)
    assert await one.reserve(1, DAY, MINUTE) == ""
    clock.advance(1)
    assert await one.reserve(MINUTE, DAY, MINUTE)
    # What is known of a minute that is over changes the day's sum only.
    await one.settle_spend(old, MINUTE, MINUTE - 10)
    assert await one.reserve(1, DAY, MINUTE) == ""
    clock.advance(DAY_MS - 2 * MINUTE_MS)
    assert await one.reserve(11, DAY, MINUTE) == ""
    assert await one.reserve(10, DAY, MINUTE)
    clock.advance(MINUTE_MS)
    assert await one.reserve(MINUTE, DAY, MINUTE)


async def test_the_day_is_a_limit_of_its_own_and_zero_is_none(make: Make) -> None:
    one = await make("one")
    assert await one.reserve(9_000, DAY, 0)
    assert await one.reserve(2_000, DAY, 0) == ""
    assert await one.reserve(10**15, 0, 0)


async def test_what_was_spent_above_the_reservation_counts(make: Make) -> None:
    one = await make("one")
    reservation = await one.reserve(1_000, DAY, MINUTE)
    await one.settle_spend(reservation, 1_000, 4_999)
    assert await one.reserve(2, DAY, MINUTE) == ""
    assert await one.reserve(1, DAY, MINUTE)


async def test_reservations_at_the_same_time_never_pass_the_limit(make: Make) -> None:
    workers = [await make(name) for name in ("one", "two", "three")]
    given = await asyncio.gather(*[workers[n % 3].reserve(700, DAY, 0) for n in range(40)])
    assert sum(1 for reservation in given if reservation) == DAY // 700


async def test_a_lease_goes_by_the_clock_of_the_server(server: RedisServer) -> None:
    with server.client() as client:

        def now_ms() -> int:
            seconds, micros = client.time()
            return int(seconds) * 1000 + int(micros) // 1000

        one = RedisExplanationStore(server.url, PATIENT, worker="one")
        before_ms = now_ms()
        await one.open()
        ends_ms = client.zscore("{explain}:w", "one")
        assert before_ms + LEASE_MS <= ends_ms <= now_ms() + LEASE_MS
        await one.close()
        assert client.zscore("{explain}:w", "one") <= now_ms()


async def test_workers_that_are_long_gone_are_forgotten_though_nobody_takes_their_jobs(server: RedisServer) -> None:
    prefix, now_ms, hour_ms = "{explain}:", wall_clock_ms(), 3_600_000
    with server.client() as client:
        client.zadd(f"{prefix}w", {"gone": now_ms - hour_ms - 1, "lately": now_ms - hour_ms // 2})
        for name in ("gone", "lately"):
            client.hset(f"{prefix}j:{name}", "job", "x")
        one = RedisExplanationStore(server.url, PATIENT, worker="one")
        await one.open()
        assert client.zrange(f"{prefix}w", 0, -1) == ["lately", "one"]
        assert client.keys(f"{prefix}j:*") == [f"{prefix}j:lately"]
        await one.close()
        assert client.zrange(f"{prefix}w", 0, -1) == ["lately", "one"]


async def test_redis_that_is_away_is_unavailable_and_found_again(redis_server: RedisServer) -> None:
    port = redis_server.port
    redis_server.stop()
    store = RedisExplanationStore(f"redis://127.0.0.1:{port}/0", PATIENT, worker="one")
    await store.open()
    with pytest.raises(StoreUnavailable):
        await store.token("default", "token")
    redis_server.restart()
    await store.publish([Post("default", "token", b"record")])
    assert await store.token("default", "token") == b"record"
    await store.close()
