"""The inverted index against its plain twin: sets, and a sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv._matches import WordMatches
from tests.ext import oracles
from tests.ext.test_kernels import seeds
from tests.ext.test_variants import random_groups

LISTED_MAX = 4096


def index(lists, size, groups=None):
    offsets = np.concatenate(([0], np.cumsum([len(held) for held in lists]))).astype(np.int64)
    return WordMatches(offsets, np.concatenate([*lists, []]).astype(np.int32), size, groups)


def random_lists(rng, words, size):
    """Of very different lengths, so that leaps are short and long."""
    return [np.flatnonzero(rng.random(size) < rng.random() ** 3).astype(np.int32) for _ in range(words)]


def twin(lists, words, weights, allowed, k):
    sums = np.zeros(len(allowed), np.float64)
    for word, weight in zip(words, weights, strict=True):
        sums[lists[word]] += weight
    sums[allowed == 0] = 0
    order = np.lexsort((np.arange(len(sums)), -sums.round(4)))
    return order[sums[order] > 0][: max(k, 0)], sums


def question(rng, lists, most):
    words = rng.permutation(len(lists))[: rng.integers(0, most + 1)].astype(np.int32)
    words = words[np.argsort([len(lists[word]) for word in words], kind="stable")]
    return words, (0.25 * rng.integers(1, 40, len(words))).astype(np.float32)


@given(seeds, st.integers(1, 12), st.integers(1, 3000), st.integers(-1, 300))
def test_what_holds_the_words_is_what_the_twin_finds(seed, words, size, k):
    rng = np.random.default_rng(seed)
    lists = random_lists(rng, words, size)
    kernel = index(lists, size)
    for _ in range(3):  # the scratch of one query is not seen by the next
        asked, weights = question(rng, lists, words)
        allowed = (rng.random(size) < 0.8).astype(np.uint8)
        items, scores = kernel.top(asked, weights, allowed, k)
        expected, sums = twin(lists, asked, weights, allowed, k)
        assert (items.dtype, scores.dtype) == (np.int32, np.float32)
        assert items.tolist() == expected.tolist()
        np.testing.assert_allclose(scores, sums[items], rtol=1e-5)
        wanted = rng.integers(0, size, 20).astype(np.int32)
        everywhere = twin(lists, asked, weights, np.ones(size, np.uint8), k)[1]
        np.testing.assert_allclose(kernel.score(asked, weights, wanted), everywhere[wanted], rtol=1e-5)


@given(seeds, st.integers(1, 6), st.integers(1, 1500), st.integers(1, 40), st.integers(-1, 100))
def test_of_the_variants_of_a_product_the_best_is_found(seed, words, size, count, k):
    rng = np.random.default_rng(seed)
    lists, groups = random_lists(rng, words, size), random_groups(rng, size, min(count, size))
    kernel = index(lists, size, groups)
    for _ in range(3):
        asked, weights = question(rng, lists, words)
        allowed = (rng.random(size) < 0.8).astype(np.uint8)
        items, scores = kernel.top(asked, weights, allowed, k)
        order, sums = twin(lists, asked, weights, allowed, size)
        assert items.tolist() == order[oracles.first_of_groups(order, groups, k)].tolist()
        np.testing.assert_allclose(scores, sums[items], rtol=1e-5)


def test_group_codes_of_wrong_length_or_range_are_refused():
    for groups in ([0, 0], [-2, 0, 0, 0, 0], [5, 0, 0, 0, 0]):
        with pytest.raises(ValueError, match="groups"):
            index([[0, 3]], 5, np.array(groups, np.int32))


def test_what_holds_every_word_is_found_however_deep_in_lists_that_are_longer_than_what_is_counted():
    size = 50_000
    common = np.arange(0, size, 2, dtype=np.int32)
    rarer = np.sort(np.concatenate((np.arange(1, 12_001, 2), [size - 4, size - 2]))).astype(np.int32)
    items, scores = index([rarer, common], size).top(
        np.array([0, 1], np.int32), np.array([3, 1], np.float32), np.ones(size, np.uint8), 5
    )
    assert items.tolist() == [size - 4, size - 2, 1, 3, 5]
    assert scores.tolist() == [4, 4, 3, 3, 3]


def test_common_words_list_a_bounded_number_of_items():
    size = 40_000
    lists = [np.arange(begin, size, 2, dtype=np.int32) for begin in (0, 1)]
    items, _ = index(lists, size).top(
        np.array([0, 1], np.int32), np.array([1, 1], np.float32), np.ones(size, np.uint8), size
    )
    assert len(items) == LISTED_MAX


@pytest.mark.parametrize(
    ("offsets", "items"), [([], []), ([0, 1], []), ([0, 2, 1], [1]), ([1, 1], [0]), ([0, 1], [5]), ([0, 1], [-1])]
)
def test_inconsistent_offsets_and_items_are_refused(offsets, items):
    with pytest.raises(ValueError, match="item"):
        WordMatches(np.array(offsets, np.int64), np.array(items, np.int32), 5)


@pytest.mark.parametrize(
    "asked", [([1], [1.0]), ([-1], [1.0]), ([0], [0.0]), ([0], [np.nan]), ([0], []), ([0] * 17, [1.0] * 17)]
)
def test_query_words_outside_the_index_or_without_weight_are_refused(asked):
    words, weights = np.array(asked[0], np.int32), np.array(asked[1], np.float32)
    with pytest.raises(ValueError, match="word"):
        index([[0, 3]], 5).top(words, weights, np.ones(5, np.uint8), 3)


def test_a_mask_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="allowed"):
        index([[0, 3]], 5).top(np.zeros(1, np.int32), np.ones(1, np.float32), np.ones(4, np.uint8), 3)


@given(seeds, st.integers(0, 40), st.integers(1, 2000))
def test_who_holds_which_of_many_words_is_what_their_lists_say(seed, words, size):
    rng = np.random.default_rng(seed)
    lists = random_lists(rng, 30, size)
    asked = rng.integers(-1, 30, words).astype(np.int32)
    wanted = rng.integers(0, size, 20).astype(np.int32)
    held = index(lists, size).holding(asked, wanted)
    expected = [[word >= 0 and item in lists[word] for word in asked] for item in wanted]
    assert (held.dtype, held.shape) == (np.uint8, (20, words))
    assert (held != 0).tolist() == np.array(expected, bool).reshape(20, words).tolist()


@pytest.mark.parametrize("word", [-2, 1])
def test_a_word_that_no_index_has_is_refused(word):
    with pytest.raises(ValueError, match="word"):
        index([[0, 3]], 5).holding(np.array([word], np.int32), np.zeros(1, np.int32))


def test_of_an_empty_index_nobody_holds_anything():
    held = index([[]], 5).holding(np.array([0, -1], np.int32), np.array([3], np.int32))
    assert held.tolist() == [[0, 0]]
