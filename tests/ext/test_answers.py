from __future__ import annotations

import numpy as np
import pytest

from recserv._answers import NeighbourCheck

N = 50


def fault(items: object, similarities: object, k: int = 10) -> str:
    return NeighbourCheck(N).fault(np.array(items, np.int32), np.array(similarities, np.float32), k)


def plain_fault(items: np.ndarray, similarities: np.ndarray, k: int) -> bool:
    fine = (
        len(items) == len(similarities) <= k
        and ((items >= 0) & (items < N)).all()
        and len(set(items.tolist())) == len(items)
        and np.isfinite(similarities).all()
        and (np.diff(similarities) <= 0).all()
    )
    return not fine


@pytest.mark.parametrize(
    ("items", "similarities", "words"),
    [
        ([1, 2, 3], [0.9, 0.9, 0.1], ""),
        ([], [], ""),
        ([1, 2], [0.9], "not as many"),
        (list(range(11)), [0.5] * 11, "more neighbours"),
        ([1, 50], [0.9, 0.8], "not in the model"),
        ([1, -1], [0.9, 0.8], "not in the model"),
        ([1, 1], [0.9, 0.8], "named twice"),
        ([1, 2], [0.8, 0.9], "out of order"),
        ([1, 2], [0.8, np.nan], "not a number"),
        ([1, 2], [np.inf, 0.9], "not a number"),
    ],
)
def test_a_wrong_search_answer_is_described_by_what_is_wrong(
    items: list[int], similarities: list[float], words: str
) -> None:
    said = fault(items, similarities)
    assert words in said
    assert bool(said) == bool(words)


def test_it_agrees_with_numpy_over_random_answers() -> None:
    rng = np.random.default_rng(5)
    check, wrong = NeighbourCheck(N), 0
    for _ in range(3000):
        m = int(rng.integers(0, 12))
        items = rng.permutation(N)[:m].astype(np.int32)
        similarities = np.sort(rng.random(m).astype(np.float32))[::-1].copy()
        if m and rng.random() < 0.5:
            items[rng.integers(m)] = rng.integers(-2, N + 2)
        if m and rng.random() < 0.3:
            similarities[rng.integers(m)] = rng.choice([np.nan, 2.0, -np.inf])
        expected = plain_fault(items, similarities, 10)
        assert bool(check.fault(items, similarities, 10)) == expected
        wrong += expected
    assert 300 < wrong < 2700


@pytest.mark.parametrize("bad", [None, [1, 2], np.ones(3), np.ones((2, 2), np.int32), "text"])
def test_what_is_no_array_of_the_right_kind_is_refused(bad: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        NeighbourCheck(N).fault(bad, np.ones(3, np.float32), 10)
