"""The ranking kernels against their NumPy twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv._rank import CandidateTable, Scorer, linear_scorer
from recserv.ranking_features import CONTRIBUTION_NAMES, FEATURE_NAMES, column
from tests.ext import oracles
from tests.ext.test_kernels import seeds, unit_rows

F = len(FEATURE_NAMES)
FIRST, SECOND = 1, 2
"""Bits of two sources."""
LISTS = (
    ("", "search_rank", 1),
    ("covisitation", "covisitation_rank", 2),
    ("session_knn", "session_knn_rank", 4),
)
COVISITATION = column("covisitation"), column("covisitation_rank")
SESSION_KNN = column("session_knn"), column("session_knn_rank")


def model(rng, n, d):
    lengths = rng.integers(0, 5, n)
    return (
        unit_rows(rng, n, d),
        *rng.uniform(0, 1, (2, n)).astype(np.float32),
        rng.uniform(0.1, 3, n).astype(np.float32),
        rng.integers(-1, 3, n).astype(np.int32),
        np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        np.concatenate([rng.choice(n, min(k, n), replace=False) for k in lengths] + [np.empty(0)]).astype(np.int32)
        if (lengths <= n).all()
        else np.empty(0, np.int32),
        rng.uniform(0.1, 2, lengths.sum()).astype(np.float32),
    )


def request(rng, n, d):
    """Lists of the sources, and what the context says."""
    lists = []
    for score, place, bit in LISTS:
        items = rng.choice(n, rng.integers(0, min(n, 8) + 1), replace=False).astype(np.int32)
        scores = np.sort(rng.uniform(0.1, 5, len(items)))[::-1].astype(np.float32)
        lists.append((score, place, items, scores, bit))
    items = rng.choice(n, rng.integers(0, min(n, 5) + 1), replace=False).astype(np.int32)
    session = rng.integers(0, 3, (len(items), 3)).astype(np.float32)
    return lists, unit_rows(rng, 2, d)[1], items, session, float(session[:, 0].sum())


def filled(table, n, lists):
    table.begin(np.ones(n, np.uint8))
    for score, place, items, scores, source in lists:
        table.add(items, scores, source, column(score), column(place))


def scorer(rng, hidden):
    weights = (
        rng.standard_normal(F),
        rng.uniform(0.5, 2, F),
        rng.standard_normal(F),
        rng.standard_normal((F, hidden)),
        rng.standard_normal(hidden),
        rng.standard_normal(hidden),
    )
    return Scorer(FEATURE_NAMES, *weights), weights


def small(n=5, capacity=2048):
    """A model without vectors or neighbours."""
    return CandidateTable(
        np.zeros((n, 2), np.float32),
        *np.zeros((2, n), np.float32),
        np.ones(n, np.float32),
        np.full(n, -1, np.int32),
        np.zeros(n + 1, np.int64),
        np.empty(0, np.int32),
        np.empty(0, np.float32),
        capacity,
    )


NOTHING = (np.zeros(2, np.float32), np.empty(0, np.int32), np.empty((0, 3), np.float32), 0.0)


@given(seeds, st.integers(5, 30), st.integers(1, 12))
def test_features_agree_with_the_twin_request_after_request(seed, n, d):
    rng = np.random.default_rng(seed)
    arrays = model(rng, n, d)
    table = CandidateTable(*arrays)
    for _ in range(3):
        lists, context, items, session, events = request(rng, n, d)
        filled(table, n, lists)
        rows, found = table.features(context, items, session, events)
        expected_rows, expected = oracles.features(
            arrays, [entry[:4] for entry in lists], context, items, session, events
        )
        assert rows.tolist() == expected_rows
        np.testing.assert_allclose(found, expected, atol=1e-5)


@given(seeds, st.integers(0, 64), st.integers(0, 20))
def test_scores_agree_with_the_twin(seed, hidden, m):
    rng = np.random.default_rng(seed)
    kernel, weights = scorer(rng, hidden)
    features = (rng.standard_normal((m, F)) * rng.choice([0.1, 1, 100])).astype(np.float32)
    np.testing.assert_allclose(kernel.scores(features), oracles.perceptron(features, *weights), rtol=1e-3, atol=1e-2)


@given(seeds, st.integers(5, 30), st.integers(-1, 40))
def test_the_best_are_those_of_the_scores_ties_by_item_row(seed, n, k):
    rng = np.random.default_rng(seed)
    table = CandidateTable(*model(rng, n, 4))
    lists, *context = request(rng, n, 4)
    kernel = linear_scorer({"search_rank": 1.0}) if seed % 2 else scorer(rng, 8)[0]
    filled(table, n, lists)
    items, features = table.features(*context)
    filled(table, n, lists)
    best, scores, best_features, _, _ = table.rank(kernel, *context, k)
    every = kernel.scores(features)
    rows = oracles.top_k(items, every, k)
    assert best.tolist() == items[rows].tolist()
    assert scores.tolist() == every[rows].tolist()
    assert best_features.tolist() == features[rows].tolist()


def test_a_share_is_what_the_score_loses_without_the_group():
    rng = np.random.default_rng(5)
    table = CandidateTable(*model(rng, 20, 4))
    lists, *context = request(rng, 20, 4)
    filled(table, 20, lists)
    kernel, weights = scorer(rng, 16)
    _, scores, features, contributions, _ = table.rank(kernel, *context, 20)
    without = features.copy()
    for name in ("session_knn", "session_knn_log", "session_knn_rank"):
        without[:, FEATURE_NAMES.index(name)] = 0.0
    lost = scores - oracles.perceptron(without, *weights)
    np.testing.assert_allclose(contributions[:, CONTRIBUTION_NAMES.index("session_knn")], lost, atol=1e-3)


def test_the_lists_that_named_a_candidate_are_remembered():
    table = small()
    table.begin(np.ones(5, np.uint8))
    table.add(np.array([4, 3], np.int32), np.ones(2, np.float32), FIRST, *COVISITATION)
    table.put(np.array([3, 1], np.int32), SECOND)
    items, *_, source_masks = table.rank(linear_scorer({"covisitation": 1.0}), *NOTHING, 5)
    both = FIRST | SECOND
    expected = {3: both, 4: FIRST, 1: SECOND}
    assert dict(zip(items.tolist(), source_masks.tolist(), strict=True)) == expected


def test_what_is_not_allowed_takes_no_place_in_a_list():
    table = small()
    allowed = np.ones(5, np.uint8)
    allowed[4] = 0
    table.begin(allowed)
    table.add(np.array([4, 3, 2], np.int32), np.array([3, 2, 1], np.float32), SECOND, *SESSION_KNN)
    items, features = table.features(*NOTHING)
    assert items.tolist() == [3, 2]
    assert features[:, FEATURE_NAMES.index("session_knn_rank")].tolist() == [1.0, 0.5]
    table.begin(allowed)
    table.put(np.array([4, 3, 2, 1], np.int32), SECOND, 2)
    assert table.features(*NOTHING)[0].tolist() == [3, 2]


@pytest.mark.parametrize("columns", [(F, -1), (-1, F), (-2, 0), (0, -2)])
def test_a_column_that_the_table_does_not_have_is_refused(columns):
    table = small()
    table.begin(np.ones(5, np.uint8))
    with pytest.raises(ValueError, match="columns"):
        table.add(np.array([4], np.int32), np.ones(1, np.float32), FIRST, *columns)


def test_without_a_column_of_scores_their_order_is_all_that_counts():
    table = small()
    table.begin(np.ones(5, np.uint8))
    table.add(np.array([4, 3], np.int32), np.zeros(2, np.float32), FIRST, -1, column("search_rank"))
    items, features = table.features(*NOTHING)
    assert items.tolist() == [4, 3]
    assert features[:, column("search_rank")].tolist() == [1.0, 0.5]


def test_a_full_table_drops_what_is_new_and_keeps_what_it_has():
    table = small(capacity=2)
    table.begin(np.ones(5, np.uint8))
    table.add(np.array([4, 3, 2], np.int32), np.ones(3, np.float32), FIRST, *COVISITATION)
    table.add(np.array([3, 1], np.int32), np.ones(2, np.float32), SECOND, *SESSION_KNN)
    items, features = table.features(*NOTHING)
    assert items.tolist() == [4, 3]
    assert features[:, FEATURE_NAMES.index("session_knn")].tolist() == [0.0, 1.0]


def test_the_heaviest_categories_come_in_with_their_first_items():
    n = 6
    table = CandidateTable(
        np.zeros((n, 2), np.float32),
        *np.zeros((2, n), np.float32),
        np.ones(n, np.float32),
        np.array([0, 0, 1, 1, 2, -1], np.int32),
        np.zeros(n + 1, np.int64),
        np.empty(0, np.int32),
        np.empty(0, np.float32),
    )
    allowed = np.ones(n, np.uint8)
    allowed[2] = 0
    table.begin(allowed)
    context, weights = np.array([5, 4, 3, 0], np.int32), np.array([9, 1, 2, 3], np.float32)
    offsets, listed = np.array([0, 2, 4, 5], np.int64), np.array([0, 1, 2, 3, 4], np.int32)
    table.put_categories(context, weights, offsets, listed, FIRST, 2, 1)
    assert table.features(*NOTHING)[0].tolist() == [0, 3]


def test_an_item_beyond_the_model_is_no_candidate_and_no_context():
    table = small()
    table.begin(np.ones(5, np.uint8))
    table.put(np.array([-1, 5, 2**31 - 1], np.int32), FIRST)
    assert len(table.features(*NOTHING)[0]) == 0
    for item in (-1, 5):
        with pytest.raises(IndexError):
            table.features(np.zeros(2, np.float32), np.array([item], np.int32), np.ones((1, 3), np.float32), 1.0)


def test_a_nan_in_a_feature_is_no_nan_in_the_score():
    features = np.full((1, F), np.nan, np.float32)
    kernel, _ = scorer(np.random.default_rng(0), 8)
    assert np.isfinite(kernel.scores(features)).all()


@pytest.mark.parametrize(
    "arguments",
    [
        (("a",), [0], [1], [1], [[1]], [0], [1]),
        (("popularity", "popularity"), [0, 0], [1, 1], [1, 1], [[1], [1]], [0], [1]),
        (("popularity",), [0], [0], [1], [[1]], [0], [1]),
        (("popularity",), [0], [1], [np.inf], [[1]], [0], [1]),
        (("popularity",), [0], [1], [1], [[1]], [0, 0], [1]),
        (("popularity",), [0], [1], [1], [[1] * 65], [0] * 65, [1] * 65),
    ],
    ids=["unknown", "twice", "scale 0", "infinite", "one bias too many", "too wide"],
)
def test_weights_that_make_no_scorer_are_refused(arguments):
    with pytest.raises(ValueError):
        Scorer(*arguments)
