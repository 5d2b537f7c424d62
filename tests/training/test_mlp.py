from __future__ import annotations

import numpy as np
import pytest

from recserv._rank import Scorer
from recserv.ranking_features import FEATURE_NAMES
from recserv.training import mlp
from recserv.training.examples import Examples


def lists(count=300, size=12, features=4, seed=0):
    """The next item is the one whose first two features have unlike signs: no linear score finds it."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, size, features)).astype(np.float32)
    x[:, :, 1] = np.abs(x[:, :, 1]) * np.sign(x[:, :, 0])
    target = rng.integers(0, size, count)
    x[np.arange(count), target, 1] *= -1
    offsets = np.arange(count + 1) * size
    return Examples(x.reshape(-1, features), offsets, target.astype(np.int64), np.zeros(count, bool), count)


def gradients_by_differences(x, examples, batch, weights, step=1e-3):
    found = []
    for at, weight in enumerate(weights):
        slopes = np.zeros_like(weight, np.float64)
        for place in np.ndindex(weight.shape):
            losses = []
            for sign in (1, -1):
                moved = [w.copy() for w in weights]
                moved[at][place] += sign * step
                losses.append(mlp._gradients(x, examples, batch, tuple(moved))[0])
            slopes[place] = (losses[0] - losses[1]) / (2 * step)
        found.append(slopes)
    return found


def test_gradients_agree_with_differences(monkeypatch):
    monkeypatch.setattr(mlp, "HIDDEN", 3)
    monkeypatch.setattr(mlp, "DECAY", 0.0)
    examples = lists(count=6, size=5)
    rng = np.random.default_rng(1)
    weights = tuple(rng.standard_normal(w.shape) for w in mlp._initial(4, rng))
    x = examples.features.astype(np.float64)
    _, gradients = mlp._gradients(x, examples, np.arange(6), weights)
    for found, expected in zip(gradients, gradients_by_differences(x, examples, np.arange(6), weights), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_it_learns_what_no_linear_score_can():
    examples = lists(count=1500)
    learned = mlp.learn(examples, seed=0)
    held = mlp.parts(examples.count)[1]
    best_linear = max(
        mlp.ranked(examples.features @ np.eye(4, dtype=np.float32)[f] * sign, examples, held).reciprocal_rank
        for f in range(4)
        for sign in (1, -1)
    )
    assert mlp.ranked(learned.scores(examples.features), examples, held).reciprocal_rank > best_linear + 0.3


def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    examples = lists(count=60)
    first, again, other = (mlp.learn(examples, seed=seed, epochs=2) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first.hidden, other.hidden)


def test_the_kernel_scores_as_what_was_learned():
    examples = lists(count=60, features=len(FEATURE_NAMES))
    learned = mlp.learn(examples, seed=0, epochs=1)
    kernel = Scorer(
        FEATURE_NAMES, learned.mean, learned.scale, learned.skip, learned.hidden, learned.bias, learned.out, mlp.CLIP
    )
    np.testing.assert_allclose(kernel.scores(examples.features), learned.scores(examples.features), atol=1e-4)


def test_a_feature_that_never_changes_is_harmless():
    examples = lists(count=40)
    examples.features[:, 2] = 7.0
    assert np.isfinite(mlp.learn(examples, seed=0, epochs=1).scores(examples.features)).all()


def test_quality_counts_ties_against_the_target_and_misses_beyond_twenty():
    size = 30
    examples = Examples(
        np.zeros((2 * size, 1), np.float32), np.array([0, size, 2 * size]), np.array([0, 3]), np.zeros(2, bool), 2
    )
    scores = np.zeros(2 * size, np.float32)
    scores[size + 3] = 1.0
    assert mlp.ranked(scores, examples, np.arange(2)) == mlp.Quality(0.5, 0.5)
    assert mlp.ranked(scores, examples, np.arange(0)) == mlp.Quality(0.0, 0.0)


def test_momentum_belongs_to_one_parameter_each():
    """Every group of weights takes the steps that plain Adam would take, however often."""
    rng = np.random.default_rng(2)
    weights = mlp._initial(3, rng)
    moments = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
    plain = [(w.astype(np.float64), np.zeros(w.shape), np.zeros(w.shape)) for w in weights]
    for step in range(1, 20):
        gradients = tuple(rng.standard_normal(w.shape).astype(np.float32) for w in weights)
        weights = mlp._adam(weights, gradients, moments, 0.01, step)
        for at, (weight, first, second) in enumerate(plain):
            gradient = gradients[at].astype(np.float64)
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            weight = weight - 0.01 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
            plain[at] = (weight, first, second)
    for found, (expected, _, _) in zip(weights, plain, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_lists_train_to_finite_weights(count):
    assert np.isfinite(mlp.learn(lists(count=count), seed=0, epochs=1).hidden).all()
