"""Every kernel against its NumPy twin, over random and extreme input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv._candidates import Covisitation, SessionKnn
from recserv._context import aggregate, weigh
from recserv._rerank import diversify
from tests.ext import oracles

KNN = {
    "neighbours": 7,
    "sessions_per_item": 5,
    "age_half_life": 0.5,
    "distance_decay": 0.3,
    "idf_power": 1.0,
    "reach": 4,
}
seeds = st.integers(0, 2**32 - 1)


def unit_rows(rng, n, d):
    rows = rng.standard_normal((n, d)).astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    rows[:: max(n // 3, 1)] = 0
    return rows


def random_lists(rng, n, largest):
    """Offsets and values of n lists over range(largest), without repeats inside a list."""
    parts = [rng.permutation(largest)[: rng.integers(0, largest + 1)] for _ in range(n)]
    offsets = np.zeros(n + 1, np.int64)
    np.cumsum([len(p) for p in parts], out=offsets[1:])
    values = np.concatenate([*parts, np.empty(0)]).astype(np.int32)
    return offsets, values


def random_context(rng, n):
    size = int(rng.integers(0, n + 1))
    return rng.permutation(n)[:size].astype(np.int32), rng.uniform(-0.3, 1.0, size).astype(np.float32)


def knn_lists(rng, n, s):
    session_offsets, session_items = random_lists(rng, s, n)
    sessions_of = [
        [q for q in range(s - 1, -1, -1) if i in session_items[session_offsets[q] : session_offsets[q + 1]]]
        for i in range(n)
    ]
    item_offsets = np.zeros(n + 1, np.int64)
    np.cumsum([len(p) for p in sessions_of], out=item_offsets[1:])
    item_sessions = np.array([q for part in sessions_of for q in part], np.int32)
    ages = rng.uniform(0, 1, s).astype(np.float32)
    idf = rng.uniform(-0.2, 3, n).astype(np.float32)
    return item_offsets, item_sessions, session_offsets, session_items, ages, idf


def assert_same_top(found, expected):
    """Equal up to float32: the scores agree, and so do the items wherever scores are further apart than rounding."""
    items, scores = found
    assert len(items) == len(expected)
    np.testing.assert_allclose(scores, [score for _, score in expected], rtol=2e-5, atol=1e-6)
    by_item = dict(expected)
    for item, score in zip(items.tolist(), scores.tolist(), strict=True):
        if item in by_item:
            assert score == pytest.approx(by_item[item], rel=2e-5, abs=1e-6)
        else:
            assert score == pytest.approx(expected[-1][1], rel=2e-5, abs=1e-6)


@given(seeds, st.integers(0, 120))
def test_event_weights_agree_with_the_twin(seed, n):
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 10, n).astype(np.uint8)
    ages = rng.uniform(0, 1e5, n).astype(np.float32)
    table = rng.uniform(-2, 2, 10).astype(np.float32)
    places = rng.uniform(0.1, 1, rng.integers(1, 30)).astype(np.float32)
    found = weigh(kinds, ages, table, 900.0, places)
    np.testing.assert_allclose(found, oracles.weigh(kinds, ages, table, 900.0, places), rtol=1e-4, atol=1e-30)


def test_a_kind_without_a_weight_is_refused():
    with pytest.raises(ValueError, match="no weight for kind 3"):
        weigh(np.array([3], np.uint8), np.zeros(1, np.float32), np.ones(3, np.float32), 1.0, np.ones(1, np.float32))


@given(seeds, st.integers(0, 30), st.integers(1, 40))
def test_the_context_vector_agrees_with_the_twin(seed, n, d):
    rng = np.random.default_rng(seed)
    embeddings = unit_rows(rng, 30, d)
    items = rng.integers(0, 30, n).astype(np.int32)
    weights = rng.uniform(0.01, 1, n).astype(np.float32)
    beside = rng.standard_normal(d).astype(np.float32) if seed % 2 else None
    importance = rng.uniform(0.2, 3, 30).astype(np.float32)
    found = aggregate(items, weights, importance, embeddings, beside)
    np.testing.assert_allclose(found, oracles.aggregate(items, weights, importance, embeddings, beside), atol=1e-4)
    assert np.linalg.norm(found) == pytest.approx(1.0, abs=1e-4) or not found.any()


def test_weights_that_cancel_give_the_zero_vector():
    embeddings = np.array([[1, 0], [1, 0]], np.float32)
    assert not aggregate(
        np.array([0, 1], np.int32), np.array([1, -1], np.float32), np.ones(2, np.float32), embeddings
    ).any()


def test_an_item_without_a_row_is_refused():
    with pytest.raises(IndexError):
        aggregate(np.array([2], np.int32), np.ones(1, np.float32), np.ones(2, np.float32), np.ones((2, 2), np.float32))
    with pytest.raises(IndexError):
        aggregate(np.array([-1], np.int32), np.ones(1, np.float32), np.ones(2, np.float32), np.ones((2, 2), np.float32))


@given(seeds, st.integers(1, 25), st.integers(-1, 40))
def test_covisitation_agrees_with_the_twin_and_leaves_no_trace(seed, n, k):
    rng = np.random.default_rng(seed)
    offsets, neighbours = random_lists(rng, n, n)
    strengths = rng.uniform(0.01, 1, len(neighbours)).astype(np.float32)
    source = Covisitation(offsets, neighbours, strengths)
    allowed = rng.integers(0, 2, n).astype(np.uint8)
    for _ in range(2):
        context, weights = random_context(rng, n)
        twin = oracles.covisitation(context, weights, offsets, neighbours, strengths)
        assert_same_top(source.top(context, weights, allowed, k), oracles.best(twin, allowed, k))
        wanted = rng.integers(0, n, 5).astype(np.int32)
        np.testing.assert_allclose(
            source.score(context, weights, wanted), [twin.get(int(w), 0.0) for w in wanted], rtol=1e-4, atol=1e-6
        )


@given(seeds, st.integers(1, 12), st.integers(0, 20), st.integers(0, 15))
def test_session_knn_agrees_with_the_twin_and_leaves_no_trace(seed, n, s, k):
    rng = np.random.default_rng(seed)
    lists = knn_lists(rng, n, s)
    # As many neighbours as sessions: with fewer, rounding may choose another one of two that are all but equal.
    settings = KNN | {"neighbours": max(s, 1)}
    source = SessionKnn(*lists, **settings)
    allowed = rng.integers(0, 2, n).astype(np.uint8)
    for _ in range(2):
        context, weights = random_context(rng, n)
        twin = oracles.session_knn(context, weights, lists, **settings)
        assert_same_top(source.top(context, weights, allowed, k), oracles.best(twin, allowed, k))
        wanted = rng.integers(0, n, 5).astype(np.int32)
        np.testing.assert_allclose(
            source.score(context, weights, wanted), [twin.get(int(w), 0.0) for w in wanted], rtol=1e-4, atol=1e-6
        )


def test_only_the_most_similar_sessions_vote():
    # Sessions 0: items 0 1 2 3 (long, so less similar); 1: items 0 4. With one neighbour only the second votes.
    item_sessions = [[1, 0], [0], [0], [0], [1]]
    offsets = np.cumsum([0] + [len(part) for part in item_sessions]).astype(np.int64)
    lists = (
        offsets,
        np.array([q for part in item_sessions for q in part], np.int32),
        np.array([0, 4, 6], np.int64),
        np.array([0, 1, 2, 3, 0, 4], np.int32),
        np.zeros(2, np.float32),
        np.ones(5, np.float32),
    )
    source = SessionKnn(*lists, **(KNN | {"neighbours": 1}))
    items, _ = source.top(np.zeros(1, np.int32), np.ones(1, np.float32), np.ones(5, np.uint8), 10)
    assert set(items.tolist()) == {0, 4}


def test_the_strongest_link_is_named():
    offsets, neighbours = np.array([0, 1, 2, 2], np.int64), np.array([2, 2], np.int32)
    source = Covisitation(offsets, neighbours, np.array([0.25, 0.5], np.float32))
    context, items = np.array([0, 1], np.int32), np.array([2, 0], np.int32)
    for weights, expected in (([1, 1], [1, -1]), ([4, 1], [0, -1]), ([2, 1], [1, -1]), ([-1, 0], [-1, -1])):
        assert source.strongest(items, context, np.array(weights, np.float32)).tolist() == expected


def test_the_strongest_link_of_an_item_that_shoppers_come_back_to_is_another_item():
    offsets, neighbours = np.array([0, 1, 2], np.int64), np.array([0, 0], np.int32)
    source = Covisitation(offsets, neighbours, np.array([5, 1], np.float32))
    context, items = np.array([1, 0], np.int32), np.array([0], np.int32)
    assert source.strongest(items, context, np.ones(2, np.float32)).tolist() == [0]


@pytest.mark.parametrize(
    ("offsets", "values"),
    [([0, 2], [0]), ([1, 1], [0]), ([0, 3, 1], [0]), ([0, 1], [1]), ([0, 1], [-1])],
    ids=["past the end", "not from zero", "falling", "item too large", "item negative"],
)
def test_lists_that_would_read_out_of_bounds_are_refused(offsets, values):
    with pytest.raises(ValueError):
        Covisitation(np.array(offsets, np.int64), np.array(values, np.int32), np.ones(len(values), np.float32))


@pytest.mark.parametrize("strength", [0.0, -1.0, np.nan])
def test_a_strength_that_is_not_positive_is_refused(strength):
    with pytest.raises(ValueError):
        Covisitation(np.array([0, 1], np.int64), np.zeros(1, np.int32), np.array([strength], np.float32))


@pytest.mark.parametrize("context", [[5], [-1]])
def test_a_context_beyond_the_model_is_refused(context):
    source = Covisitation(np.array([0, 1], np.int64), np.zeros(1, np.int32), np.ones(1, np.float32))
    with pytest.raises(IndexError):
        source.top(np.array(context, np.int32), np.ones(1, np.float32), np.ones(1, np.uint8), 3)


@given(seeds, st.integers(0, 20), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(-1, 25))
def test_diversity_agrees_with_the_twin(seed, m, diversity, k):
    rng = np.random.default_rng(seed)
    # Whole numbers: both sides compute the same floats, so ties are ties on both.
    embeddings = rng.integers(0, 2, (max(m, 1), 3)).astype(np.float32)
    items = rng.permutation(m).astype(np.int32)
    scores = rng.integers(0, 5, m).astype(np.float32) / 4
    embeddings /= 4
    expected = oracles.diversify(items, scores.astype(np.float64), embeddings, diversity, k)
    found = diversify(items, scores, embeddings, diversity, k).tolist()
    assert len(found) == len(set(found)) == len(expected)
    if diversity in (0.0, 1.0) or m < 3:
        assert found == expected


def test_diversity_prefers_what_is_unlike_the_chosen():
    embeddings = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    items, scores = np.arange(3, dtype=np.int32), np.array([1.0, 0.9, 0.1], np.float32)
    assert diversify(items, scores, embeddings, 0.0, 3).tolist() == [0, 1, 2]
    assert diversify(items, scores, embeddings, 0.7, 3).tolist() == [0, 2, 1]


@pytest.mark.parametrize("diversity", [-0.1, 1.1, np.nan])
def test_a_diversity_out_of_range_is_refused(diversity):
    with pytest.raises(ValueError):
        diversify(np.zeros(1, np.int32), np.ones(1, np.float32), np.ones((1, 1), np.float32), diversity, 1)


def test_scores_that_are_not_finite_cannot_be_diversified():
    with pytest.raises(ValueError):
        diversify(np.zeros(1, np.int32), np.array([np.nan], np.float32), np.ones((1, 1), np.float32), 0.5, 1)
