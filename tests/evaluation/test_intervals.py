"""Intervals hold what they promise: over many draws of sessions the truth lies in nineteen of twenty."""

from __future__ import annotations

import numpy as np
import pytest

from recserv.evaluation.intervals import of_difference, of_mean, of_share


def sessions(count: int, questions: int) -> np.ndarray:
    return np.repeat(np.arange(count), questions)


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_the_truth_lies_within_though_questions_of_one_session_go_together(share: float) -> None:
    rng = np.random.default_rng(0)
    inside, draws = 0, 400
    for _ in range(draws):
        # All questions of a session are found or none: as good as one question a session.
        hits = np.repeat(rng.random(200) < share, 5)
        interval = of_share(hits, sessions(200, 5))
        inside += interval.low <= share <= interval.high
    assert 0.91 < inside / draws <= 0.99


def test_more_questions_about_the_same_sessions_are_no_more_evidence_if_they_agree() -> None:
    hits = np.random.default_rng(0).random(100) < 0.4
    one, ten = of_share(hits, sessions(100, 1)), of_share(np.repeat(hits, 10), sessions(100, 10))
    assert ten.half == pytest.approx(one.half, rel=0.01)
    assert ten.value == one.value


@pytest.mark.parametrize("hit", [False, True])
def test_none_found_or_all_is_not_certain_for_ever(hit: bool) -> None:
    interval = of_share(np.full(50, hit), sessions(50, 1))
    assert interval.value == float(hit)
    assert 0.02 < interval.high - interval.low < 0.1


def test_the_interval_of_one_session_spans_everything() -> None:
    assert of_share(np.ones(9, bool), np.zeros(9, np.int64)).half == 0.5


def test_a_difference_on_the_same_questions_is_known_better_than_either_figure() -> None:
    rng = np.random.default_rng(0)
    one = (rng.random(1000) < 0.3).astype(float)
    other = np.where(rng.random(1000) < 0.05, 0.0, one)
    session = sessions(1000, 1)
    difference = of_difference(one, other, session)
    assert difference.value == pytest.approx(one.mean() - other.mean())
    assert difference.low > 0
    assert difference.half < 0.5 * of_mean(one, session).half
