from __future__ import annotations

import random

import pytest

from recserv.resilience.breaker import BreakerSettings, BreakerState, CircuitBreaker, Transition
from tests.resilience.reference_breaker import ReferenceBreaker, Result

SCHEDULES = 10_000
STEPS = 60
SEED = 20_261_121


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def make(clock: Clock, **settings: float) -> CircuitBreaker:
    given = {"sliding_window_size": 4, "minimum_number_of_calls": 4, "wait_jitter": 0.0, **settings}
    return CircuitBreaker("b", BreakerSettings(**given), clock=clock, random=lambda: 0.5)


def fails(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.fail(breaker.acquire(), 0.0)


def opened(clock: Clock, **settings: float) -> CircuitBreaker:
    breaker = make(clock, **settings)
    fails(breaker, 4)
    assert breaker.state == BreakerState.OPEN
    return breaker


def random_settings(chosen: random.Random) -> BreakerSettings:
    return BreakerSettings(
        sliding_window_size=chosen.randint(1, 8),
        minimum_number_of_calls=chosen.randint(1, 8),
        failure_rate_threshold=chosen.choice((0.1, 0.3, 0.5, 1.0)),
        slow_call_rate_threshold=chosen.choice((0.2, 0.5, 1.0)),
        slow_call_duration_threshold_s=1.0,
        wait_duration_in_open_state_s=chosen.choice((0.5, 3.0)),
        wait_jitter=chosen.choice((0.0, 0.3)),
        permitted_calls_in_half_open_state=chosen.randint(1, 4),
        max_wait_duration_in_half_open_state_s=chosen.choice((1.0, 4.0)),
    )


def one_schedule(chosen: random.Random) -> list[str]:
    """Random calls, results, cancellations and pauses; both breakers must agree at every step."""
    settings, clock = random_settings(chosen), Clock()
    draws = [chosen.random() for _ in range(STEPS)]
    waits = [1.0 + settings.wait_jitter * (2.0 * draw - 1.0) for draw in draws]
    changes: list[Transition] = []
    remaining = iter(draws)
    breaker = CircuitBreaker("b", settings, clock=clock, random=lambda: next(remaining), on_transition=changes.append)
    reference = ReferenceBreaker(settings, waits)
    held = []
    failing = chosen.choice((0.05, 0.4, 0.9))
    for _ in range(STEPS):
        step = chosen.random()
        if step < 0.45:
            wait_s = breaker.retry_after_s()
            permit, expected = breaker.acquire(), reference.acquire(clock.now_s)
            assert bool(permit) == (expected is not None) == (wait_s == 0.0)
            if expected is not None:
                held.append((permit, expected))
        elif step < 0.85 and held:
            permit, expected = held.pop(chosen.randrange(len(held)))
            if chosen.random() < 0.2:
                breaker.release(permit)
                reference.release(clock.now_s, expected)
                continue
            failed, slow = chosen.random() < failing, chosen.random() < 0.2
            settle = breaker.fail if failed else breaker.succeed
            settle(permit, 2.0 if slow else 1.0)
            reference.settle(clock.now_s, expected, Result(failed, slow))
        else:
            clock.now_s += chosen.choice((0.01, 0.6, 2.0, 6.0))
        reference.at(clock.now_s)
        assert breaker.state.name == reference.state
    assert [change.after.name for change in changes] == reference.history
    return reference.history


def test_ten_thousand_random_schedules_go_as_a_plain_reference_says() -> None:
    seen: dict[str, int] = {"CLOSED": 0, "HALF_OPEN": 0, "OPEN": 0}
    for number in range(SCHEDULES):
        try:
            for state in one_schedule(random.Random(SEED + number)):
                seen[state] += 1
        except AssertionError:
            print(f"schedule {number} fails: Random({SEED + number})")
            raise
    # The schedules must have gone everywhere.
    assert min(seen.values()) > SCHEDULES / 10, seen


def test_it_opens_at_the_failure_rate_and_not_before_the_minimum_of_calls() -> None:
    breaker = make(Clock(), failure_rate_threshold=0.5)
    fails(breaker, 2)
    breaker.succeed(breaker.acquire(), 0.0)
    assert breaker.state == BreakerState.CLOSED
    breaker.succeed(breaker.acquire(), 0.0)
    assert breaker.state == BreakerState.OPEN
    assert not breaker.acquire()
    assert breaker.refused == 1


def test_only_the_last_results_of_the_window_count() -> None:
    breaker = make(Clock(), failure_rate_threshold=0.75)
    for _ in range(3):
        fails(breaker, 1)
        for _ in range(3):
            breaker.succeed(breaker.acquire(), 0.0)
    assert breaker.state == BreakerState.CLOSED


def test_slow_calls_open_it_even_if_they_succeed() -> None:
    breaker = make(Clock(), slow_call_rate_threshold=0.5, slow_call_duration_threshold_s=1.0)
    for duration_s in (0.1, 1.0, 1.1, 5.0):
        breaker.succeed(breaker.acquire(), duration_s)
    assert breaker.state == BreakerState.OPEN


def test_after_the_wait_a_bounded_number_of_probes_decides() -> None:
    clock = Clock()
    breaker = opened(clock, wait_duration_in_open_state_s=2.0, permitted_calls_in_half_open_state=2)
    clock.now_s += 1.9
    assert not breaker.acquire()
    assert breaker.retry_after_s() == pytest.approx(0.1)
    clock.now_s += 0.1
    probes = [breaker.acquire(), breaker.acquire()]
    assert all(probes)
    assert not breaker.acquire()
    for probe in probes:
        breaker.succeed(probe, 0.0)
    assert breaker.state == BreakerState.CLOSED
    assert breaker.retry_after_s() == 0.0


def test_while_a_probe_is_left_nobody_has_to_wait() -> None:
    clock = Clock()
    breaker = opened(clock, permitted_calls_in_half_open_state=2, max_wait_duration_in_half_open_state_s=5.0)
    clock.now_s += 10
    assert breaker.acquire()
    assert breaker.retry_after_s() == 0.0
    assert breaker.acquire()
    assert breaker.retry_after_s() == pytest.approx(5.0)


def test_probes_that_fail_open_it_again() -> None:
    clock = Clock()
    breaker = opened(clock, permitted_calls_in_half_open_state=2)
    clock.now_s += 10
    for probe in (breaker.acquire(), breaker.acquire()):
        breaker.fail(probe, 0.0)
    assert breaker.state == BreakerState.OPEN


def test_a_half_open_state_without_results_ends() -> None:
    clock = Clock()
    breaker = opened(clock, max_wait_duration_in_half_open_state_s=5.0, permitted_calls_in_half_open_state=1)
    clock.now_s += 2
    stuck = breaker.acquire()
    clock.now_s += 5
    assert breaker.state == BreakerState.OPEN
    breaker.succeed(stuck, 7.0)
    assert breaker.state == BreakerState.OPEN
    clock.now_s += 2
    assert breaker.acquire()


def test_a_storm_of_cancellations_leaks_no_permit() -> None:
    clock = Clock()
    breaker = opened(clock, permitted_calls_in_half_open_state=3, max_wait_duration_in_half_open_state_s=1e9)
    clock.now_s += 10
    chosen = random.Random(7)
    held: list[int] = []
    for _ in range(20_000):
        if permit := breaker.acquire():
            held.append(permit)
        assert len(held) <= 3
        if held and chosen.random() < 0.5:
            cancelled = held.pop(chosen.randrange(len(held)))
            breaker.release(cancelled)
            # Whoever lets go twice must not free a second place.
            breaker.release(cancelled)
    while held:
        breaker.release(held.pop())
    probes = [breaker.acquire() for _ in range(4)]
    assert [bool(probe) for probe in probes] == [True, True, True, False]
    for probe in probes[:3]:
        breaker.succeed(probe, 0.0)
    assert breaker.state == BreakerState.CLOSED


def test_results_of_an_earlier_state_are_ignored() -> None:
    clock = Clock()
    breaker = make(clock, permitted_calls_in_half_open_state=1)
    late = [breaker.acquire() for _ in range(10)]
    fails(breaker, 4)
    clock.now_s += 10
    probe = breaker.acquire()
    for permit in late[:5]:
        breaker.fail(permit, 0.0)
        breaker.release(permit)
    assert breaker.state == BreakerState.HALF_OPEN
    assert not breaker.acquire()
    breaker.succeed(probe, 0.0)
    for permit in late[5:]:
        breaker.fail(permit, 0.0)
    assert breaker.state == BreakerState.CLOSED


def test_the_wait_is_spread_by_the_jitter() -> None:
    clock, changes = Clock(), []
    for draw in (0.0, 0.5, 0.999999):
        breaker = CircuitBreaker(
            "b",
            BreakerSettings(minimum_number_of_calls=1, wait_duration_in_open_state_s=10.0, wait_jitter=0.3),
            clock=clock,
            random=lambda draw=draw: draw,
            on_transition=changes.append,
        )
        fails(breaker, 1)
    assert [change.wait_s for change in changes] == pytest.approx([7.0, 10.0, 13.0], rel=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sliding_window_size": 0},
        {"failure_rate_threshold": 0.0},
        {"slow_call_rate_threshold": 1.1},
        {"max_wait_duration_in_half_open_state_s": 0.0},
        {"wait_jitter": 1.0},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        BreakerSettings(**wrong)
