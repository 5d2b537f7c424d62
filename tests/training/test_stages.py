"""Co-visitation, vectors and session-kNN beside slow twins, on small random sessions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recserv.training import covisitation as cv
from recserv.training.embeddings import behaviour_vectors, normalised
from recserv.training.linear_algebra import truncated_svd, unit_rows
from recserv.training.session_knn import session_knn
from tests.training.support import ITEMS, naive_basket_pairs, naive_knn, naive_pairs, session_lists, sessions_of

steps = st.tuples(st.integers(1, 7), st.sampled_from([0.3, 0.5, 1.0]), st.sampled_from([0.5, 0.8, 1.0]))


@given(session_lists, steps, st.booleans())
@settings(max_examples=60)
def test_ordered_pairs_are_what_a_slow_count_finds(
    lists: list[list[int]], step: tuple[int, float, float], returns: bool
) -> None:
    window, backward, decay = step
    counts = cv.pair_counts(
        sessions_of(lists), ITEMS, window=window, backward=backward, step_decay=decay, returns=returns
    )
    np.testing.assert_allclose(counts.toarray(), naive_pairs(lists, *step, returns), rtol=1e-5)


def test_neighbours_say_how_often_shoppers_come_back_to_an_item() -> None:
    offsets, items, weights = cv.covisitation(sessions_of([[0, 1, 0], [2, 3]]), ITEMS)
    assert 0 in items[offsets[0] : offsets[1]]
    assert 2 not in items[offsets[2] : offsets[3]]
    assert (weights > 0).all()


@given(session_lists)
@settings(max_examples=60)
def test_basket_pairs_are_what_a_slow_count_finds(lists: list[list[int]]) -> None:
    counts = cv.pair_counts(sessions_of(lists, unordered=True), ITEMS)
    np.testing.assert_allclose(counts.toarray(), naive_basket_pairs(lists), rtol=1e-5)


@given(session_lists, st.integers(1, 5))
@settings(max_examples=60)
def test_neighbours_are_the_heaviest_ones_in_order(lists: list[list[int]], count: int) -> None:
    offsets, items, weights = cv.covisitation(sessions_of(lists), ITEMS, neighbours=count)
    counts = naive_pairs(lists, cv.WINDOW, cv.BACKWARD, cv.STEP_DECAY, returns=True)
    popularity = np.bincount([item for one in lists for item in one], minlength=ITEMS)
    expected = counts * np.maximum(popularity, 1.0) ** -cv.POPULARITY_POWER
    assert offsets[0] == 0
    assert offsets[-1] == len(items) == len(weights)
    for item in range(ITEMS):
        found = weights[offsets[item] : offsets[item + 1]]
        row = np.sort(expected[item][expected[item] > 0])[::-1][:count]
        np.testing.assert_allclose(found, row, rtol=1e-5)
        np.testing.assert_allclose(found, expected[item][items[offsets[item] : offsets[item + 1]]], rtol=1e-5)


def test_neighbours_of_equal_weight_are_sorted_by_item_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv, "_ROWS_A_BLOCK", 2)
    matrix = sp.csr_array(np.array([[0, 1, 2, 1], [3, 0, 3, 3], [0, 0, 0, 0], [0, 0, -1, 5]], np.float32))
    offsets, items, weights = cv.strongest(matrix, 2)
    assert offsets.tolist() == [0, 2, 4, 4, 5]
    assert items.tolist() == [2, 1, 0, 2, 3]
    assert weights.tolist() == [2, 1, 3, 3, 5]


def test_a_step_counts_by_the_weight_of_the_event_it_leads_to() -> None:
    sessions = sessions_of([[0, 1]])
    sessions.weights[:] = [1, 3]
    counts = cv.pair_counts(sessions, ITEMS, backward=0.5)
    assert counts[0, 1] == 3
    assert counts[1, 0] == 0.5


def test_a_huge_basket_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv, "BASKET_ITEMS_MAX", 3)
    assert cv.basket_pairs(sessions_of([list(range(ITEMS))], unordered=True), ITEMS).nnz == 3 * 2


@given(session_lists, st.integers(1, 4), st.integers(2, 5))
@settings(max_examples=80)
def test_session_knn_is_what_a_slow_walk_finds(lists: list[list[int]], an_item: int, a_session: int) -> None:
    knn = session_knn(sessions_of(lists), ITEMS, sessions_an_item=an_item, items_a_session=a_session)
    by_item, by_session = naive_knn(lists, an_item, a_session)
    assert len(knn.session_age) == len(by_session)
    for number, items in enumerate(by_session):
        assert knn.session_items[knn.session_offsets[number] : knn.session_offsets[number + 1]].tolist() == items
    for item in range(ITEMS):
        found = knn.item_sessions[knn.item_offsets[item] : knn.item_offsets[item + 1]].tolist()
        assert found == by_item.get(item, [])
    assert np.isfinite(knn.item_idf).all()
    assert (knn.item_idf >= 0).all()
    assert (np.diff(knn.session_age) <= 0).all()


def test_only_the_newest_sessions_are_kept() -> None:
    knn = session_knn(sessions_of([[0, 1], [2, 3], [4, 5]]), ITEMS, sessions_max=2)
    assert knn.session_items.tolist() == [2, 3, 4, 5]
    assert knn.session_age.tolist() == [2, 1]


@given(session_lists)
@settings(max_examples=40)
def test_normalised_counts_are_what_the_formula_says(lists: list[list[int]]) -> None:
    counts = cv.pair_counts(sessions_of(lists), ITEMS, backward=1.0)
    dense = counts.toarray().astype(np.float64)
    sums = dense.sum(axis=1)
    raised = sums + (sums[sums > 0].mean() if (sums > 0).any() else 1.0)
    np.testing.assert_allclose(normalised(counts).toarray(), dense / np.sqrt(np.outer(raised, raised)), rtol=1e-4)


def test_the_svd_is_the_exact_one_on_a_small_matrix() -> None:
    matrix = sp.random_array((40, 30), density=0.3, rng=np.random.default_rng(0), dtype=np.float32).tocsr()
    vectors, values = truncated_svd(matrix, 8, seed=1)
    left, exact, _ = np.linalg.svd(matrix.toarray())
    np.testing.assert_allclose(values, exact[:8], rtol=2e-2)
    assert (np.abs((vectors * left[:, :8]).sum(axis=0))[:3] > 0.99).all()
    again, _ = truncated_svd(matrix, 8, seed=1)
    assert (vectors == again).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (5, 3)])
def test_the_svd_of_a_tiny_matrix_is_filled_up_with_zeros(shape: tuple[int, int]) -> None:
    vectors, values = truncated_svd(sp.csr_array(np.ones(shape, np.float32)), 8, seed=0)
    assert vectors.shape == (shape[0], 8)
    assert values[0] == pytest.approx(np.sqrt(shape[0] * shape[1]), rel=1e-5)
    assert not vectors[:, min(shape) :].any()


def test_rows_become_unit_length_or_exactly_zero() -> None:
    rows = unit_rows(np.array([[3, 4], [0, 0], [1e-9, 0]], np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [0, 0]], rtol=1e-6)


def test_items_that_go_together_lie_together() -> None:
    rng = np.random.default_rng(0)
    lists = [rng.permutation(6)[:4] + 6 * int(rng.integers(2)) for _ in range(200)]
    vectors = behaviour_vectors(sessions_of([one.tolist() for one in lists]), ITEMS, 8, seed=0)
    cosine = vectors @ vectors.T
    same = np.add.outer(np.arange(ITEMS) // 6, np.arange(ITEMS) // 6) % 2 == 0
    assert cosine[same].min() > cosine[~same].max()


def test_an_item_that_is_always_alone_has_no_vector() -> None:
    vectors = behaviour_vectors(sessions_of([[0, 1], [2], [0, 1]]), ITEMS, 4, seed=0)
    assert vectors[[0, 1]].any(axis=1).all()
    assert not vectors[2:].any()
    assert not behaviour_vectors(sessions_of([[2]]), ITEMS, 4, seed=0).any()
