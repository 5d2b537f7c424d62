"""A perceptron that ranks lists: listwise softmax (ListNet's top-one, Cao et al. 2007) by hand-written gradients.

    x = clip((features - mean) / scale)    score = skip . x + out . relu(hidden^T x + bias)
    loss of a list = -log softmax(scores)[what came next]

Adam with a cosine schedule over shuffled lists. The newest lists are not learned from; they tell how good it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recserv.training.examples import Examples

CLIP = 6.0
HIDDEN = 32
EPOCHS = 15
BATCH_LISTS = 32
RATE = 4e-3
DECAY = 1e-5
VALIDATION_SHARE = 0.1
SCALE_MIN = 1e-4

Floats = npt.NDArray[np.float32]
OnEpoch = Callable[[int, float, float, float], None]


class Perceptron(NamedTuple):
    """mean, scale, skip: float32 [f]; hidden: float32 [f, h]; bias, out: float32 [h]."""

    mean: Floats
    scale: Floats
    skip: Floats
    hidden: Floats
    bias: Floats
    out: Floats

    def scores(self, features: Floats) -> Floats:
        """float32 [m] of raw features float32 [m, f]."""
        return _forward(_standardised(features, self.mean, self.scale), self[2:])[0]


class Quality(NamedTuple):
    """Over lists that hold the next item: how often it is among the first 20, and the mean of 1 / rank there."""

    hit_rate: float
    reciprocal_rank: float


def learn(examples: Examples, *, seed: int, epochs: int = EPOCHS, on_epoch: OnEpoch | None = None) -> Perceptron:
    """Learns from examples.count > 0 lists. `on_epoch`: epoch, loss, and hit rate and reciprocal rank on validation."""
    rng = np.random.default_rng(seed)
    mean, scale = _moments(examples.features)
    x = _standardised(examples.features, mean, scale)
    weights = _initial(x.shape[1], rng)
    learned, held = parts(examples.count)
    moments = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
    steps, step = max(1, epochs * -(-len(learned) // BATCH_LISTS)), 0
    for epoch in range(epochs):
        losses = []
        order = rng.permutation(learned)
        for begin in range(0, len(order), BATCH_LISTS):
            step += 1
            rate = RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
            loss, gradients = _gradients(x, examples, order[begin : begin + BATCH_LISTS], weights)
            weights = _adam(weights, gradients, moments, rate, step)
            losses.append(loss)
        quality = ranked(_forward(x, weights)[0], examples, held)
        if on_epoch is not None:
            on_epoch(epoch + 1, float(np.mean(losses)), *quality)
    return Perceptron(mean, scale, *weights)


def ranked(scores: Floats, examples: Examples, lists: npt.NDArray[np.int64]) -> Quality:
    """How well scores float32 [m] of all rows rank the targets of some lists; ties count against the target."""
    wanted = scores[examples.offsets[lists] + examples.target[lists]]
    rows, segments = _rows_of(examples, lists)
    better = scores[rows] >= np.repeat(wanted, np.diff(segments))
    ranks = np.add.reduceat(better, segments[:-1], dtype=np.int64) if len(lists) else np.zeros(0, np.int64)
    hits = ranks <= 20
    return Quality(float(hits.mean()), float((hits / ranks).mean())) if len(lists) else Quality(0.0, 0.0)


Weights = tuple[Floats, Floats, Floats, Floats]


def _moments(features: Floats) -> tuple[Floats, Floats]:
    mean = features.mean(axis=0, dtype=np.float64)
    scale = np.maximum(features.std(axis=0, dtype=np.float64), SCALE_MIN)
    return mean.astype(np.float32), scale.astype(np.float32)


def _standardised(features: Floats, mean: Floats, scale: Floats) -> Floats:
    x = (features - mean) / scale
    return np.clip(x, -CLIP, CLIP, out=x)


def _initial(features: int, rng: np.random.Generator) -> Weights:
    hidden = rng.standard_normal((features, HIDDEN)).astype(np.float32) * np.float32(np.sqrt(2 / features))
    out = rng.standard_normal(HIDDEN).astype(np.float32) * np.float32(0.1)
    return np.zeros(features, np.float32), hidden, np.zeros(HIDDEN, np.float32), out


def parts(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Lists to learn from and lists to validate on: the newest ones, which come last."""
    held = int(count * VALIDATION_SHARE)
    return np.arange(count - held), np.arange(count - held, count)


def _rows_of(examples: Examples, lists: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows of some lists, list after list, and where each list begins among them."""
    begins, sizes = examples.offsets[lists], examples.offsets[lists + 1] - examples.offsets[lists]
    segments = np.concatenate(([0], np.cumsum(sizes)))
    return np.arange(segments[-1]) + np.repeat(begins - segments[:-1], sizes), segments


def _forward(x: Floats, weights: Weights) -> tuple[Floats, Floats]:
    skip, hidden, bias, out = weights
    inner = x @ hidden
    inner += bias
    np.maximum(inner, 0, out=inner)
    return inner @ out + x @ skip, inner


def _gradients(x: Floats, examples: Examples, lists: npt.NDArray[np.int64], weights: Weights) -> tuple[float, Weights]:
    rows, segments = _rows_of(examples, lists)
    sizes = np.diff(segments)
    batch = x[rows]
    scores, inner = _forward(batch, weights)
    scores -= np.repeat(np.maximum.reduceat(scores, segments[:-1]), sizes)
    shares = np.exp(scores)
    shares /= np.repeat(np.add.reduceat(shares, segments[:-1]), sizes)
    wanted = segments[:-1] + examples.target[lists]
    loss = float(-np.log(np.maximum(shares[wanted], 1e-30)).mean())
    shares[wanted] -= 1
    shares /= np.float32(len(lists))
    skip, hidden, _, out = weights
    back = np.outer(shares, out)
    back *= inner > 0
    return loss, (
        batch.T @ shares + DECAY * skip,
        batch.T @ back + DECAY * hidden,
        back.sum(axis=0),
        inner.T @ shares + DECAY * out,
    )


def _adam(
    weights: Weights, gradients: Weights, moments: list[tuple[Floats, Floats]], rate: float, step: int
) -> Weights:
    """New weights; the moments change in place, each an array of its own."""
    updated = []
    for weight, gradient, (first, second) in zip(weights, gradients, moments, strict=True):
        first += 0.1 * (gradient - first)
        second += 0.001 * (gradient * gradient - second)
        corrected = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        updated.append((weight - rate * corrected).astype(np.float32))
    return updated[0], updated[1], updated[2], updated[3]
