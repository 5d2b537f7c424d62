"""The training kernels against their NumPy twins, over random and extreme input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recserv import _session_space as kernels
from tests.ext import session_space_oracles as oracles

seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.float32, np.float64])


def a_batch(rng, dtype):
    n, d, contexts = int(rng.integers(1, 9)), int(rng.integers(0, 20)), int(rng.integers(0, 6))
    segments = np.zeros(contexts + 1, np.int64)
    np.cumsum(rng.integers(0, 5, contexts), out=segments[1:])
    events = int(segments[-1])
    vectors = rng.standard_normal((n, d)).astype(dtype)
    items = rng.integers(0, n, events).astype(np.int32)
    weights = rng.uniform(-2, 2, events).astype(dtype)
    return vectors, items, weights, segments, int(rng.integers(0, 1 << 63)), int(rng.choice([0, 51, 255]))


def close(found, expected, dtype):
    tolerance = 1e-3 if dtype is np.float32 else 1e-10
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * (1 + np.abs(expected).max(initial=0)))


@given(seeds, dtypes)
@settings(max_examples=60)
def test_contexts_are_sums_of_dropped_out_rows(seed, dtype):
    rng = np.random.default_rng(seed)
    vectors, items, weights, segments, key, dropped = a_batch(rng, dtype)
    mask = np.empty(kernels.mask_width(vectors.shape[1]), dtype)
    out = np.full((len(segments) - 1, vectors.shape[1]), 7, dtype)
    kernels.encode(vectors, items, weights, segments, key, dropped, mask, out)
    expected = oracles.encode(vectors, items, weights, segments, key, dropped)
    close(out, expected.reshape(out.shape), dtype)


@given(seeds, dtypes)
@settings(max_examples=60)
def test_the_backward_pass_repeats_the_dropout_of_the_forward_pass(seed, dtype):
    rng = np.random.default_rng(seed)
    vectors, items, weights, segments, key, dropped = a_batch(rng, dtype)
    slopes = rng.standard_normal((len(segments) - 1, vectors.shape[1])).astype(dtype)
    slots = rng.integers(0, 4, len(items)).astype(np.int32)
    gradient, by_event = np.zeros((4, vectors.shape[1]), dtype), np.zeros(len(items), dtype)
    mask = np.empty(kernels.mask_width(vectors.shape[1]), dtype)
    kernels.encode_backward(vectors, items, weights, segments, key, dropped, mask, slopes, slots, gradient, by_event)
    expected = oracles.encode_backward(vectors, items, weights, segments, key, dropped, slopes, slots, 4)
    close(gradient, expected[0], dtype)
    close(by_event, expected[1], dtype)


def test_dropout_drops_its_share_and_keeps_the_mean():
    ones = np.ones((1, 64), np.float32)
    items, weights = np.zeros(2000, np.int32), np.full(2000, 1 / 2000, np.float32)
    out, mask = np.empty((1, 64), np.float32), np.empty(64, np.float32)
    kernels.encode(ones, items, weights, np.array([0, 2000]), 5, 51, mask, out)
    np.testing.assert_allclose(out, 1, atol=0.06)
    kernels.encode(ones, items[:1], weights[:1] * 2000, np.array([0, 1]), 5, 128, mask, out)
    assert set(np.unique(out)) == {0.0, 2.0}


@given(st.lists(st.integers(0, 9), max_size=30), st.lists(st.integers(0, 9), max_size=10, unique=True))
def test_slots_number_distinct_items_by_first_appearance(first, second):
    slot_of, rows = np.full(10, -1, np.int32), np.empty(len(first) + len(second), np.int32)
    slots, more = np.empty(len(first), np.int32), np.empty(len(second), np.int32)
    count = kernels.assign_slots(np.array(first, np.int32), slot_of, rows, 0, slots)
    assert rows[:count].tolist() == list(dict.fromkeys(first))
    count = kernels.assign_slots(np.array(second, np.int32), slot_of, rows, count, more)
    assert rows[:count].tolist() == list(dict.fromkeys(first + second))
    assert rows[slots].tolist() == first
    assert rows[more].tolist() == second


@given(seeds, dtypes)
@settings(max_examples=30)
def test_scattering_adds_up_repeated_rows(seed, dtype):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 3, int(rng.integers(0, 9))).astype(np.int32)
    values = rng.standard_normal((len(rows), 5)).astype(dtype)
    target = rng.standard_normal((3, 5)).astype(dtype)
    expected = target.astype(np.float64)
    np.add.at(expected, rows, -2.5 * values.astype(np.float64))
    kernels.scatter_add(target, rows, values, -2.5)
    close(target, expected, dtype)


@given(seeds, dtypes)
@settings(max_examples=40)
def test_adam_equals_the_published_algorithm_over_many_steps(seed, dtype):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((6, 3)).astype(dtype)
    oracle = oracles.Adam(values)
    mean, square = np.zeros_like(values), np.zeros_like(values)
    for step in range(1, 9):
        rows = rng.permutation(6)[: rng.integers(0, 7)].astype(np.int32)
        gradient = rng.standard_normal((len(rows), 3)).astype(dtype)
        oracle.step(rows, gradient, 0.05)
        kernels.adam_rows(values, mean, square, rows, gradient, 0.05, step)
    close(values, oracle.values, dtype)
    close(mean, oracle.mean, dtype)
    close(square, oracle.square, dtype)


def test_adam_leaves_rows_that_it_is_not_given_bit_for_bit():
    rng = np.random.default_rng(0)
    arrays = [rng.random((5, 3)).astype(np.float32) for _ in range(3)]
    before = [array.copy() for array in arrays]
    kernels.adam_rows(*arrays, np.array([1, 3], np.int32), np.ones((2, 3), np.float32), 0.1, 1)
    for array, old in zip(arrays, before, strict=True):
        assert np.array_equal(array[[0, 2, 4]], old[[0, 2, 4]])
        assert (array[[1, 3]] != old[[1, 3]]).all()


def test_arguments_of_the_wrong_shape_or_range_are_refused():
    vectors, out, mask = np.ones((2, 3), np.float32), np.ones((1, 3), np.float32), np.ones(8, np.float32)
    items, weights = np.zeros(2, np.int32), np.ones(2, np.float32)
    with pytest.raises(IndexError):
        kernels.encode(vectors, items + 2, weights, np.array([0, 2]), 0, 0, mask, out)
    for segments in ([0, 1], [1, 2], [0, 1, 2], [0, 3]):
        with pytest.raises(ValueError):
            kernels.encode(vectors, items, weights, np.array(segments), 0, 0, mask, out)
    with pytest.raises(ValueError):
        kernels.encode(vectors, items, weights, np.array([0, 2]), 0, 256, mask, out)
    with pytest.raises(ValueError):
        kernels.encode(vectors, items, weights, np.array([0, 2]), 0, 0, mask[:3], out)
    with pytest.raises(IndexError):
        kernels.scatter_add(out, np.array([1], np.int32), out, 1.0)
    with pytest.raises(IndexError):
        kernels.adam_rows(vectors, vectors, vectors, np.array([-1], np.int32), out, 0.1, 1)
    with pytest.raises(ValueError):
        kernels.adam_rows(vectors, vectors, vectors, np.array([0], np.int32), out, 0.1, 0)
    with pytest.raises(ValueError):
        kernels.assign_slots(items, np.full(2, -1, np.int32), np.empty(1, np.int32), 0, np.empty(2, np.int32))
