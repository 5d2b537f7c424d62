from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from recserv.resilience.retry import RetryBudget


def test_retries_never_exceed_a_tenth_of_requests() -> None:
    chosen = random.Random(3)
    budget, retries = RetryBudget(0.1), 0
    for requests in range(1, 10_001):
        budget.request()
        if chosen.random() < 0.7 and budget.take():
            retries += 1
        assert retries <= 0.1 * requests + 1e-9
    assert retries > 900


def test_a_quiet_time_saves_up_a_bounded_number() -> None:
    budget = RetryBudget(0.1, tokens_max=5)
    for _ in range(10_000):
        budget.request()
    assert sum(budget.take() for _ in range(100)) == 5


@given(st.lists(st.integers(0, 3), max_size=60), st.floats(0, 1))
def test_retries_stay_below_their_share_and_what_was_saved(wanted: list[int], share: float) -> None:
    budget = RetryBudget(share, tokens_max=5.0, saved=5.0)
    attempts = 0
    for more in wanted:
        budget.request()
        attempts += 1 + sum(budget.take() for _ in range(more))
    assert attempts <= len(wanted) * (1 + share) + 5.0


def test_what_was_saved_is_there_from_the_start() -> None:
    budget = RetryBudget(0.5, tokens_max=20.0, saved=20.0)
    budget.request()
    assert [budget.take() for _ in range(5)] == [True] * 5
