from __future__ import annotations

import pytest

from recserv.resilience.limiter import GradientLimit, LimitSettings, Verdict, verdict
from recserv.types import Priority

WORK_S = 0.0005
SETTINGS = LimitSettings(initial=40, lowest=4, highest=256, wait_s=0.005)


def settled(arrivals_per_window: float, windows: int = 300, work_s: float = WORK_S) -> list[tuple[float, float]]:
    """A server that does one call after the other, 10 ms a window, shedding what is beyond twice the limit: the limit
    and the wait after each window.
    """
    limit, waiting, trace = GradientLimit(SETTINGS), 0.0, []
    for _ in range(windows):
        waiting = max(0.0, waiting + arrivals_per_window - 0.010 / work_s)
        waiting = min(waiting, 2 * limit.limit)
        limit.update(int(waiting) + 1, work_s, waiting * work_s)
        trace.append((limit.limit, waiting * work_s))
    return trace


def test_under_overload_the_wait_settles_at_a_few_milliseconds() -> None:
    for load in (1.2, 2.0, 10.0):
        waits = [wait_s for _, wait_s in settled(load * 0.010 / WORK_S)[50:]]
        assert max(waits) < 0.020


def test_a_slow_server_has_a_lower_limit_than_a_fast_one() -> None:
    fast, slow = settled(40, work_s=0.0005)[-1][0], settled(40, work_s=0.002)[-1][0]
    assert slow < fast


def test_calls_that_take_long_without_waiting_raise_the_limit() -> None:
    limit = GradientLimit(SETTINGS)
    for _ in range(200):
        limit.update(inside=int(limit.limit), work_s=0.08, waited_s=0.0)
    assert limit.limit == SETTINGS.highest


def test_an_unlimited_server_goes_back_to_where_it_began_and_no_further() -> None:
    limit = GradientLimit(SETTINGS)
    for _ in range(50):
        limit.update(inside=100, work_s=WORK_S, waited_s=1.0)
    assert limit.limit < 1.2 * SETTINGS.lowest
    for _ in range(1000):
        limit.update(inside=1, work_s=WORK_S, waited_s=0.0)
    assert limit.limit == pytest.approx(SETTINGS.initial, rel=0.01)


@pytest.mark.parametrize(
    ("inside", "low", "normal", "high"),
    [
        (1, Verdict.FULL, Verdict.FULL, Verdict.FULL),
        (8, Verdict.BRIEF, Verdict.FULL, Verdict.FULL),
        (11, Verdict.BRIEF, Verdict.BRIEF, Verdict.FULL),
        (16, Verdict.REJECT, Verdict.BRIEF, Verdict.URGENT),
        (61, Verdict.REJECT, Verdict.REJECT, Verdict.URGENT),
        (81, Verdict.REJECT, Verdict.REJECT, Verdict.REJECT),
    ],
)
def test_the_less_urgent_call_gives_way_first(inside: int, low: Verdict, normal: Verdict, high: Verdict) -> None:
    given = [verdict(inside, 10.0, priority) for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH)]
    assert given == [low, normal, high]
    assert verdict(inside, 10.0, Priority.UNSPECIFIED) == normal


@pytest.mark.parametrize(("waiting", "high"), [(2, Verdict.URGENT), (3, Verdict.BRIEF)])
def test_beyond_the_limit_an_urgent_call_is_answered_in_full_while_hardly_any_wait(waiting: int, high: Verdict) -> None:
    assert verdict(50, 10.0, Priority.HIGH, waiting) is high
    assert verdict(50, 10.0, Priority.NORMAL, waiting) is Verdict.BRIEF
    assert verdict(14, 10.0, Priority.HIGH, waiting) is Verdict.FULL
