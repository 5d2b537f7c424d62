"""One suite for every explanation store: in memory and in Redis, two workers on what they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from recserv.errors import StoreUnavailable
from recserv.stores import explanations_base, explanations_memory
from recserv.stores.explanations_base import Outcome, Post, PostedJob
from recserv.stores.explanations_memory import MemoryExplanationStore, Shelf
from recserv.stores.explanations_redis import RedisExplanationStore
from recserv.stores.redis_router import RedisTimeouts
from recserv.types import wall_clock_ms
from tests.redis_server import RedisServer
from tests.stores.redis_support import PATIENT

LEASE_S = 0.3
KEYS = [bytes([n]) * 16 for n in range(4)]
DAY, MINUTE = 10_000, 5_000

Make = Callable[..., Any]


@pytest.fixture(params=["memory", "redis"])
async def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """Makes workers by name, all on one shared store."""
    made: list[Any] = []
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("server")
    shelf = Shelf()
    monkeypatch.setattr(explanations_memory, "LEASE_S", LEASE_S)

    async def make(name: str, **options: Any) -> Any:
        store: Any
        if request.param == "redis":
            store = RedisExplanationStore(server.url, PATIENT, lease_s=LEASE_S, worker=name, **options)
        else:
            store = MemoryExplanationStore(wall_clock_ms, shelf=shelf, worker=name, **options)
        await store.open()
        made.append(store)
        return store

    yield make
    for store in made:
        await store.close()


def job(name: str, payload: bytes = b"payload") -> PostedJob:
    return PostedJob(name, "default", payload)


async def beating(store: Any, seconds: float) -> None:
    """Keeps a worker alive for so long."""
    give_up_s = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < give_up_s:
        await store.beat()
        await asyncio.sleep(LEASE_S / 4)


async def test_a_token_is_known_to_every_worker_of_its_tenant(make: Make) -> None:
    one, two = await make("one"), await make("two")
    await one.publish([Post("default", "token-1", b"record\x00\xff"), Post("default", "token-2", b"other")])
    assert await two.token("default", "token-1") == b"record\x00\xff"
    assert await one.token("default", "token-2") == b"other"
    assert await two.token("another", "token-1") is None
    assert await two.token("default", "token-3") is None


async def test_a_token_ends_by_itself(make: Make) -> None:
    one = await make("one", token_ttl_s=0.2)
    await one.publish([Post("default", "token", b"record")])
    assert await one.token("default", "token") == b"record"
    await asyncio.sleep(0.3)
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


async def test_a_text_is_kept_for_its_time(make: Make) -> None:
    one = await make("one", cache_ttl_s=0.2)
    await one.settle("default", "job", [(KEYS[0], Outcome("text", ready_ms=1))], done=True)
    await asyncio.sleep(0.3)
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


async def test_jobs_of_a_worker_that_lives_are_nobody_elses(make: Make) -> None:
    one, two = await make("one"), await make("two")
    await one.publish([Post("default", "", b"", (job("a"),))])
    await beating(one, 2 * LEASE_S)
    assert await two.orphans(10) == []


async def test_jobs_and_claims_of_a_dead_worker_are_taken_over_once(make: Make) -> None:
    one, two, three = await make("one"), await make("two"), await make("three")
    await one.claim("default", KEYS[:1])
    await one.publish(
        [Post("default", "", b"", (job("a", b"1"), job("b", b"2"))), Post("default", "", b"", (job("c"),))]
    )
    await one.settle("default", "b", [], done=True)
    await asyncio.gather(beating(two, 1.5 * LEASE_S), beating(three, 1.5 * LEASE_S))
    taken = await two.orphans(10)
    assert sorted((posted.job_id, posted.payload, posted.takeovers) for posted in taken) == [
        ("a", b"1", 1),
        ("c", b"payload", 1),
    ]
    assert await three.orphans(10) == []
    assert [claim.mine for claim in await three.claim("default", KEYS[:1])] == [True]
    await beating(three, 1.5 * LEASE_S)
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


async def test_workers_that_are_long_gone_are_forgotten_though_nobody_takes_their_jobs(server: RedisServer) -> None:
    prefix, now_ms, hour_ms = "{explain}:", wall_clock_ms(), 3_600_000
    with server.client() as client:
        client.zadd(f"{prefix}w", {"gone": now_ms - hour_ms - 1, "lately": now_ms - hour_ms + 60_000})
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
    store = RedisExplanationStore(f"redis://127.0.0.1:{port}/0", RedisTimeouts(), worker="one")
    await store.open()
    with pytest.raises(StoreUnavailable):
        await store.token("default", "token")
    redis_server.restart()
    await store.publish([Post("default", "token", b"record")])
    assert await store.token("default", "token") == b"record"
    await store.close()
