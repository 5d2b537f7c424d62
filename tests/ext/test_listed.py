"""Listed neighbours against their NumPy twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv._listed import ListedNeighbours
from tests.ext.test_kernels import seeds, unit_rows

LOOKED_AT = 4


def random_lists(rng, n, width):
    """Each as long as it likes to be, the rest -1."""
    lists = np.full((n, width), -1, np.int32)
    for row in lists:
        length = rng.integers(0, min(n, width) + 1)
        row[:length] = rng.choice(n, length, replace=False)
    return lists


@given(seeds, st.integers(1, 30), st.integers(1, 40), st.integers(0, 12), st.integers(-1, 40))
def test_the_best_of_the_lists_are_those_of_the_twin(seed, n, d, width, k):
    rng = np.random.default_rng(seed)
    embeddings, lists = unit_rows(rng, n, d), random_lists(rng, n, width)
    kernel = ListedNeighbours(embeddings, lists, LOOKED_AT)
    assert kernel.width == width
    for _ in range(3):  # the scratch of one search is not seen by the next
        query = rng.standard_normal(d).astype(np.float32)
        items = rng.integers(0, n, rng.integers(0, 11)).astype(np.int32)
        union = np.unique(lists[items[-LOOKED_AT:]])
        union = union[union >= 0]
        found = kernel.nearest(query, items, k)
        if not 0 < k <= len(union):
            assert found is None
            continue
        assert found is not None
        item_rows, cosines = found
        assert (item_rows.dtype, cosines.dtype, len(item_rows), len(cosines)) == (np.int32, np.float32, k, k)
        assert len(set(item_rows.tolist())) == k
        assert set(item_rows.tolist()) <= set(union.tolist())
        np.testing.assert_allclose(cosines, embeddings[item_rows] @ query, atol=1e-4)
        np.testing.assert_allclose(cosines, np.sort(embeddings[union] @ query)[::-1][:k], atol=1e-4)


def test_equal_similarities_come_in_order_of_item_row():
    embeddings = np.ones((5, 4), np.float32) / 2
    lists = np.array([[4, 2], [0, 3], [1, -1], [-1, -1], [-1, -1]], np.int32)
    found = ListedNeighbours(embeddings, lists, LOOKED_AT).nearest(embeddings[0], np.array([0, 1, 2], np.int32), 5)
    assert found is not None
    assert found[0].tolist() == [0, 1, 2, 3, 4]


def test_a_query_that_is_not_finite_finds_nothing():
    lists = np.array([[0, 1], [1, 0]], np.int32)
    kernel = ListedNeighbours(np.eye(2, dtype=np.float32), lists, 1)
    assert kernel.nearest(np.full(2, np.nan, np.float32), np.zeros(1, np.int32), 1) is None


@pytest.mark.parametrize(
    "lists",
    [np.array([[2], [0]]), np.array([[-2], [0]]), np.array([[0]]), np.empty((3, 0))],
    ids=["beyond", "below", "too few", "too many"],
)
def test_lists_that_do_not_fit_are_refused(lists):
    with pytest.raises(ValueError):
        ListedNeighbours(np.eye(2, dtype=np.float32), lists.astype(np.int32), 1)


def test_neighbours_of_zero_last_items_are_refused():
    with pytest.raises(ValueError):
        ListedNeighbours(np.eye(2, dtype=np.float32), np.zeros((2, 1), np.int32), 0)


def test_items_and_queries_that_do_not_fit_are_refused():
    kernel = ListedNeighbours(np.eye(2, dtype=np.float32), np.zeros((2, 1), np.int32), 1)
    for item in (-1, 2):
        with pytest.raises(IndexError):
            kernel.nearest(np.ones(2, np.float32), np.array([item], np.int32), 1)
    with pytest.raises(ValueError):
        kernel.nearest(np.ones(3, np.float32), np.zeros(1, np.int32), 1)
