"""The product of a sparse matrix and a dense one, beside SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from recserv._sparse import multiply
from recserv.training.linear_algebra import product
from tests.ext.test_kernels import seeds


@given(seeds, st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.0, 0.1, 1.0]))
def test_the_product_is_scipys_to_the_bit(seed, rows, columns, width, density):
    rng = np.random.default_rng(seed)
    sparse = sp.random_array((rows, columns), density=density, format="csr", dtype=np.float32, rng=rng)
    dense = rng.standard_normal((columns, width)).astype(np.float32)
    found = product(sparse, dense)
    assert found.dtype == np.float32
    assert found.tolist() == (sparse @ dense).tolist()


def test_a_part_of_the_rows_leaves_the_others_alone():
    sparse, dense, out = sp.csr_array(np.eye(4, dtype=np.float32)), np.ones((4, 3), np.float32), np.zeros((4, 3))
    out = out.astype(np.float32)
    multiply(sparse.indptr.astype(np.int64), sparse.indices, sparse.data, dense, 1, 3, out)
    assert out.tolist() == [[0] * 3, [1] * 3, [1] * 3, [0] * 3]


OFFSETS, COLUMNS, VALUES = np.array([0, 1, 2], np.int64), np.array([0, 1], np.int32), np.ones(2, np.float32)
DENSE, OUT = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    "arguments",
    [
        (OFFSETS, COLUMNS, VALUES, DENSE, 0, 3, OUT),
        (OFFSETS, COLUMNS, VALUES, DENSE, -1, 1, OUT),
        (OFFSETS, COLUMNS, VALUES[:1], DENSE, 0, 2, OUT),
        (OFFSETS, COLUMNS, VALUES, DENSE, 0, 2, OUT[:1]),
        (OFFSETS, COLUMNS + np.int32(1), VALUES, DENSE, 0, 2, OUT),
        (OFFSETS, COLUMNS - np.int32(1), VALUES, DENSE, 0, 2, OUT),
        (np.array([0, 3, 2], np.int64), COLUMNS, VALUES, DENSE, 0, 2, OUT),
        (np.array([0, 1, 3], np.int64), COLUMNS, VALUES, DENSE, 0, 2, OUT),
        (np.array([-1, 1, 2], np.int64), COLUMNS, VALUES, DENSE, 0, 2, OUT),
    ],
    ids=["rows", "before", "values", "out", "column", "below", "offsets fall", "offsets beyond", "offsets below"],
)
def test_shapes_and_columns_that_do_not_fit_are_refused(arguments):
    with pytest.raises(ValueError):
        multiply(*arguments)
