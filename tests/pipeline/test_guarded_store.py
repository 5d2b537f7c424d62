"""The store behind its breakers: with a clock to turn by hand, an outage of half a minute takes a moment."""

from __future__ import annotations

import asyncio

import pytest

from recserv.errors import StoreUnavailable
from recserv.pipeline.guarded_store import GuardedStore, StoreGuard, StoreGuardSettings
from recserv.resilience.breaker import BreakerSettings, BreakerState, Transition
from recserv.stores.base import AppendEvent, AppendResult, AppendStatus
from recserv.types import Event, ShopperKey, ShopperState
from tests.patience import HANG_GUARD_S

KEYS = (ShopperKey("s"),)
EVENTS = [AppendEvent(Event(event_id=name), b"", 0, 0) for name in ("a", "b")]
STORED = AppendResult(AppendStatus.ACCEPTED, 7)
LOST = AppendResult(AppendStatus.UNAVAILABLE, 0, "no")


class Clock:
    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


class Store:
    """Does what it is told, and counts how often it is asked."""

    token_key = b""

    def __init__(self) -> None:
        self.reads = self.appends = self.probes = 0
        self.probe_error: BaseException | None = None
        self.error: BaseException | None = None
        self.hangs = False
        self.results: list[list[AppendResult]] = []

    async def _as_told(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error

    async def read(self, tenant, keys):
        self.reads += 1
        await self._as_told()
        return [ShopperState(sequence=1) for _ in keys]

    async def versions(self, tenant, keys):
        self.probes += 1
        if self.probe_error is not None:
            raise self.probe_error
        return [(1,) for _ in keys]

    async def append(self, tenant, events):
        self.appends += 1
        await self._as_told()
        return self.results.pop(0) if self.results else [STORED] * len(events)


class Fixture:
    def __init__(self, **settings: object):
        self.clock, self.inner = Clock(), Store()
        self.changes: list[Transition] = []
        self.retried: list[str] = []
        self.guard = StoreGuard(
            StoreGuardSettings(**{"retry_pause_s_max": 1e-4, "append_timeout_s": HANG_GUARD_S, **settings}),
            clock=self.clock,
            random=lambda: 0.5,
            on_transition=self.changes.append,
            on_retry=self.retried.append,
        )
        self.store = GuardedStore(self.inner, self.guard)

    def states(self) -> list[tuple[str, BreakerState]]:
        return [(change.breaker, change.after) for change in self.changes]

    def save_retries(self, requests: int = 100) -> None:
        for _ in range(requests):
            self.guard.retries.request()


async def read(fixture: Fixture, within_s: float = HANG_GUARD_S) -> bool:
    try:
        await fixture.store.read("t", KEYS, within_s)
    except (StoreUnavailable, TimeoutError):
        return False
    return True


async def test_an_outage_of_30_seconds_costs_a_few_attempts_and_ends_within_seconds() -> None:
    """50 requests a second: 10 s of health, 30 s of outage, 10 s of health."""
    fixture = Fixture()
    answered: dict[str, int] = {"before": 0, "outage": 0, "after": 0}
    attempts: dict[str, int] = {}
    opened_s = closed_s = None
    for name, seconds in (("before", 10), ("outage", 30), ("after", 10)):
        fixture.inner.error = StoreUnavailable("blackhole") if name == "outage" else None
        began_s, attempts_before = fixture.clock.now_s, fixture.inner.reads
        for _ in range(50 * seconds):
            fixture.clock.now_s += 0.02
            answered[name] += await read(fixture)
            if name == "outage" and opened_s is None and fixture.guard.reads.state is BreakerState.OPEN:
                opened_s = fixture.clock.now_s - began_s
            if name == "after" and closed_s is None and fixture.guard.reads.state is BreakerState.CLOSED:
                closed_s = fixture.clock.now_s - began_s
        attempts[name] = fixture.inner.reads - attempts_before
    assert opened_s is not None
    assert opened_s < 1.0
    assert closed_s is not None
    assert closed_s < 3.0
    assert attempts["outage"] < 0.1 * 50 * 30
    assert fixture.inner.reads <= 1.1 * 50 * 50
    assert answered["before"] == 500
    assert answered["outage"] == 0
    assert answered["after"] > 350


async def test_a_read_that_fails_is_repeated_at_the_cost_of_a_token() -> None:
    fixture = Fixture()
    fixture.inner.error = StoreUnavailable("refused")
    assert not await read(fixture)
    assert fixture.inner.reads == 1
    fixture.save_retries()
    assert not await read(fixture)
    assert fixture.inner.reads == 3
    assert fixture.retried == ["read"]


async def test_a_read_out_of_time_is_not_repeated() -> None:
    fixture = Fixture()
    fixture.save_retries()
    fixture.inner.hangs = True
    with pytest.raises(TimeoutError):
        await fixture.store.read("t", KEYS, 0.01)
    assert fixture.inner.reads == 1


async def test_only_the_events_that_were_lost_are_sent_again() -> None:
    fixture = Fixture()
    fixture.save_retries()
    fixture.inner.results = [[STORED, LOST], [STORED]]
    assert await fixture.store.append("t", EVENTS) == [STORED, STORED]
    assert fixture.inner.appends == 2
    assert fixture.retried == ["append"]


async def test_a_store_that_hangs_or_raises_on_an_append_answers_for_every_event() -> None:
    fixture = Fixture(append_timeout_s=0.01)
    fixture.inner.hangs = True
    late = await fixture.store.append("t", EVENTS)
    fixture.inner.hangs, fixture.inner.error = False, ZeroDivisionError()
    broken = await fixture.store.append("t", EVENTS)
    for results in (late, broken):
        assert [result.status for result in results] == [AppendStatus.UNAVAILABLE] * 2


async def test_writes_that_fail_do_not_take_the_reads_away() -> None:
    fixture = Fixture()
    for _ in range(10):
        fixture.inner.results = [[LOST, LOST]]
        await fixture.store.append("t", EVENTS)
    assert fixture.states() == [("store_write", BreakerState.OPEN)]
    fixture.inner.results = []
    fixture.save_retries()
    results = await fixture.store.append("t", EVENTS)
    assert [result.status for result in results] == [AppendStatus.UNAVAILABLE] * 2
    assert "left alone" in results[0].error
    assert (fixture.inner.appends, fixture.retried) == (10, [])
    assert await read(fixture)


async def test_while_the_breaker_is_open_the_refusal_is_immediate_and_says_when_to_come_again() -> None:
    fixture = Fixture()
    fixture.inner.error = StoreUnavailable("refused")
    for _ in range(10):
        await read(fixture)
    with pytest.raises(StoreUnavailable) as caught:
        await fixture.store.read("t", KEYS, HANG_GUARD_S)
    assert 100 <= caught.value.retry_after_ms <= 2000
    assert fixture.inner.reads == 10


async def test_callers_that_go_away_say_nothing_of_the_store() -> None:
    fixture = Fixture(breaker=BreakerSettings(minimum_number_of_calls=2, permitted_calls_in_half_open_state=2))
    fixture.inner.error = StoreUnavailable("refused")
    await read(fixture)
    await read(fixture)
    fixture.clock.now_s += 10
    fixture.inner.error, fixture.inner.hangs = None, True
    for _ in range(50):
        waiting = [asyncio.create_task(fixture.store.read("t", KEYS, HANG_GUARD_S)) for _ in range(2)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    fixture.inner.hangs = False
    assert [await read(fixture) for _ in range(2)] == [True, True]
    assert fixture.guard.reads.state is BreakerState.CLOSED


async def test_an_error_that_is_not_the_stores_own_is_one_all_the_same() -> None:
    fixture = Fixture()
    fixture.inner.error = ZeroDivisionError()
    with pytest.raises(StoreUnavailable):
        await fixture.store.read("t", KEYS, HANG_GUARD_S)


async def probed(fixture: Fixture) -> bool:
    try:
        await fixture.store.versions("t", KEYS, HANG_GUARD_S)
    except StoreUnavailable:
        return False
    return True


@pytest.mark.parametrize("error", [StoreUnavailable("this user may not run scripts"), ValueError("a bug")])
async def test_probes_that_fail_take_no_readable_state_away(error: Exception) -> None:
    fixture = Fixture()
    fixture.inner.probe_error = error
    for _ in range(50):
        assert not await probed(fixture)
    assert await read(fixture)
    assert fixture.states() == []


async def test_probes_that_are_answered_do_not_hide_reads_that_fail() -> None:
    fixture = Fixture()
    fixture.inner.error = StoreUnavailable("large values time out")
    for _ in range(BreakerSettings().minimum_number_of_calls):
        assert not await read(fixture)
        for _ in range(BreakerSettings().sliding_window_size):
            await probed(fixture)
    assert fixture.states() == [("store_read", BreakerState.OPEN)]


async def test_a_store_that_is_left_alone_is_not_probed_and_then_is_without_waiting_for_a_read() -> None:
    fixture = Fixture()
    fixture.inner.error = StoreUnavailable("down")
    while fixture.guard.reads.state is not BreakerState.OPEN:
        await read(fixture)
    assert not await probed(fixture)
    assert fixture.inner.probes == 0
    fixture.clock.now_s += 60.0
    for _ in range(20):
        assert await probed(fixture)
    assert fixture.guard.reads.state is BreakerState.OPEN, "whether it can be read a read says"
    fixture.inner.error = None
    assert await read(fixture)
