"""The suite's own arithmetic: it must see what it looks for."""

from __future__ import annotations

import math

import pytest

from recserv.bench.worker import Sample
from tests.chaos.measure import broken_promises, outcome_of, quantile, timeline

STATE = ("STATE_UNAVAILABLE",)
KEPT = {"allowed": frozenset(STATE), "expected": frozenset(STATE), "control_p99_s": 0.01}


def _run(*parts: tuple[float, float, tuple[str, ...]], latency_s: float = 0.005) -> list[Sample]:
    """Ten calls a second from each part's begin to its end, with its reasons."""
    return [
        Sample(begin + n / 10, latency_s, "OK", reasons)
        for begin, end, reasons in parts
        for n in range(round((end - begin) * 10))
    ]


GOOD = _run((0, 1, ()), (1, 7, STATE), (7, 10, ()))


def test_a_run_that_keeps_its_promises() -> None:
    outcome = outcome_of(GOOD, 1.0, 6.0)
    assert (outcome.calls, outcome.degraded, outcome.failed) == (50, 50, 0)
    assert outcome.normal_after_s == pytest.approx(1.0)
    assert broken_promises(outcome, **KEPT) == []


def test_one_failed_call_is_seen_whenever_it_was() -> None:
    for at_s in (0.5, 3.0, 6.5):
        samples = sorted([*GOOD, Sample(at_s, 0.1, "DEADLINE_EXCEEDED")], key=lambda one: one.due_s)
        assert "1 calls failed" in broken_promises(outcome_of(samples, 1.0, 6.0), **KEPT)[0]


def test_one_wrong_label_is_seen() -> None:
    samples = _run((0, 1, ()), (1, 2, ("INDEX_TIMEOUT", *STATE)), (2, 6, STATE), (6, 9, ()))
    [broken] = broken_promises(outcome_of(samples, 1.0, 6.0), **KEPT)
    assert "INDEX_TIMEOUT" in broken


def test_a_label_that_the_calls_own_latency_explains_is_the_machines_if_it_is_rare() -> None:
    for strays, kept in ((1, True), (10, False)):
        stray = [Sample(7.5 + n / 1000, 0.15, "OK", ("INDEX_TIMEOUT",)) for n in range(strays)]
        samples = sorted([*GOOD, *stray], key=lambda one: one.due_s)
        assert (broken_promises(outcome_of(samples, 1.0, 6.0), **KEPT) == []) is kept


def test_a_degraded_answer_before_the_fault_is_seen() -> None:
    samples = _run((0, 1, ("UNLABELLED",)), (1, 6, STATE), (6, 9, ()))
    assert "UNLABELLED" in broken_promises(outcome_of(samples, 1.0, 6.0), **KEPT)[0]


def test_a_fault_that_did_not_bite_is_seen() -> None:
    assert "did not show" in broken_promises(outcome_of(_run((0, 9, ())), 1.0, 6.0), **KEPT)[0]


def test_slow_answers_are_seen() -> None:
    samples = _run((0, 1, ()), (1, 6, STATE), (6, 9, ()), latency_s=0.25)
    assert "p99 250 ms" in broken_promises(outcome_of(samples, 1.0, 6.0), **KEPT)[0]


@pytest.mark.parametrize("last", [(6, 17, STATE), (6, 16.5, ()), (6, 6.5, ())])
def test_a_run_that_does_not_become_normal_is_seen(last: tuple[float, float, tuple[str, ...]]) -> None:
    parts = [(0, 1, ()), (1, 6, STATE), last]
    if last[1] == 16.5:
        parts = [(0, 1, ()), (1, 16.5, STATE), (16.5, 20, ())]
    assert "not normal again" in broken_promises(outcome_of(_run(*parts), 1.0, 6.0), **KEPT)[-1]


def test_a_timeline_tells_each_second() -> None:
    lines = timeline([*_run((9.5, 10.5, STATE)), Sample(10.7, 1.0, "DEADLINE_EXCEEDED")], 10.0)
    assert lines == [
        " -1 s: {'OK': 5} {'STATE_UNAVAILABLE': 5} slowest 5 ms",
        "  0 s: {'OK': 5, 'DEADLINE_EXCEEDED': 1} {'STATE_UNAVAILABLE': 5} slowest 1000 ms",
    ]


def test_quantiles_are_of_the_values_themselves() -> None:
    assert quantile(range(1, 101), 0.99) == 99
    assert quantile([3.0], 0.99) == 3.0
    assert math.isnan(quantile([], 0.99))
