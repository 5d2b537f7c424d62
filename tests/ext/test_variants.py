"""Variants against their NumPy twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv._variants import Variants
from tests.ext import oracles
from tests.ext.test_kernels import seeds


def random_groups(rng, n, count):
    """Of all sizes, and items without any."""
    return np.where(rng.random(n) < 0.3, -1, rng.integers(0, count, n)).astype(np.int32)


@given(seeds, st.integers(1, 60), st.integers(1, 60), st.integers(-1, 40))
def test_the_first_of_each_group_are_those_of_the_twin(seed, n, count, k):
    rng = np.random.default_rng(seed)
    groups = random_groups(rng, n, min(count, n))
    kernel = Variants(groups)
    for _ in range(3):  # the scratch of one question is not seen by the next
        items = rng.permutation(n)[: rng.integers(0, n + 1)].astype(np.int32)
        allowed = (rng.random(n) < 0.7).astype(np.uint8)
        taken = rng.integers(0, n, rng.integers(0, 4)).astype(np.int32)
        plain, filtered = kernel.first(items, k), kernel.first(items, k, allowed=allowed, taken=taken)
        assert plain.dtype == np.int32
        assert plain.tolist() == oracles.first_of_groups(items, groups, k)
        assert filtered.tolist() == oracles.first_of_groups(items, groups, k, allowed, taken)
        found = kernel.with_siblings(items)
        assert found.dtype == np.int32
        assert len(set(found.tolist())) == len(found)
        assert set(found.tolist()) == oracles.with_siblings(items, groups)


@pytest.mark.parametrize("groups", [[-2, 0], [2, -1]])
def test_group_codes_outside_the_range_are_refused(groups):
    with pytest.raises(ValueError, match="groups"):
        Variants(np.array(groups, np.int32))


@pytest.mark.parametrize("item", [-1, 2])
def test_item_rows_outside_the_model_are_refused(item):
    kernel, items = Variants(np.zeros(2, np.int32)), np.array([item], np.int32)
    for ask in (
        lambda: kernel.first(items, 1),
        lambda: kernel.first(items[:0], 1, taken=items),
        lambda: kernel.with_siblings(items),
        lambda: kernel.first(items[:0], 1, allowed=np.ones(3, np.uint8)),
    ):
        with pytest.raises(ValueError, match=r"not an item|one entry"):
            ask()
