"""Item vectors and session vectors in one space, learned from what came next (the idea of CORE, Hou et al. 2022).

    sessions -> held-out prefixes | training prefixes -> batches -> loss and gradients -> lazy Adam -> SessionSpace

A session is the normalised weighted sum of its items' vectors, so the same table answers for items and for sessions,
and serving needs no network:  q = normalise(sum of position weight x importance x type weight x vector).

Two learned factors stand beside the vectors: how much an event tells by its place from the last one back, and how much
by its item. Everything is a function of the input and the seed; the same machine gives the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from recserv import _session_space as kernels
from recserv.training.checkpoints import Arrays, Checkpoint, random_state, restore_random_state
from recserv.training.linear_algebra import Matrix, unit_rows
from recserv.training.session_prefixes import HeldOut, Prefixes, split
from recserv.training.session_softmax import Batch, Gradients, Parameters, Real, Softmax, event_weights
from recserv.training.sessions import Sessions

_START_SIZE = 0.1
_SIZE_MIN = 1e-6
_LOG_FACTOR_MAX = 8.0
_SCORES_A_BLOCK = 1 << 23
_HITS_AMONG = 20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Hyperparameters of the training. Raises ValueError for values out of range.

    The same values serve clicks and baskets: doubling the rate or the dropout, or letting importance start at a power
    of popularity, changed neither beyond the noise, or for the worse.

    `places`: how many events back a context reaches. A batch has `batch_max` prefixes, fewer where an epoch would have
    less than `epoch_batches_min` of them. `rate_max`: the peak of the one-cycle schedule.
    """

    places: int = 20
    temperature: float = 0.07
    dropout: float = 0.2
    batch_max: int = 1024
    batch_min: int = 32
    epoch_batches_min: int = 64
    negatives: int = 1024
    rate_max: float = 4e-3
    warm_up: float = 0.2

    def __post_init__(self) -> None:
        if not 1 <= self.places <= 1000:
            raise ValueError("places must be 1..1000")
        if not 0.02 <= self.temperature <= 10:
            raise ValueError("temperature must be 0.02..10")
        if not 0 <= self.dropout <= 0.9:
            raise ValueError("dropout must be 0..0.9")
        if not 0 < self.rate_max <= 1:
            raise ValueError("rate_max must be in 0..1")
        if min(self.batch_min, self.batch_max, self.epoch_batches_min, self.negatives) < 1:
            raise ValueError("batches and negatives must be positive")
        if not 0 < self.warm_up < 1:
            raise ValueError("warm_up must be inside 0..1")


@dataclass(frozen=True)
class EpochReport:
    """`epoch`: epochs done of `epochs`; `loss`: mean since the last report; `hit_rate`, `reciprocal_rank`: among the
    best 20 of all items, over `prefixes` held-out prefixes (None where there are none); `position_weights`: as learned
    so far; `seconds`: since training began.
    """

    epoch: float
    epochs: float
    loss: float
    hit_rate: float | None
    reciprocal_rank: float | None
    prefixes: int
    position_weights: Matrix
    seconds: float


@dataclass(frozen=True)
class SessionSpace:
    """`vectors` float32 [n, d]: rows of unit length, zero for an item that never occurs beside another one.
    `importance` float32 [n]: mean 1 over the items with a vector; 1 for the others, whose vector, if they get one, is
    made of what they are and should weigh as much as any. `position_weights` float32 [places]: 1 for the newest event;
    events further back than these count nothing.
    """

    vectors: Matrix
    importance: Matrix
    position_weights: Matrix


def learn_session_space(  # noqa: PLR0913
    sessions: Sessions,
    item_count: int,
    *,
    dimensions: int,
    epochs: float,
    seed: int,
    start: Matrix | None = None,
    holdout_share: float = 0.02,
    on_epoch: Callable[[EpochReport], None] | None = None,
    settings: Settings | None = None,
    checkpoint: Checkpoint | None = None,
) -> SessionSpace:
    """Learns from every session of two or more events, but for those held out.

    `epochs` may be a fraction. `start` float32 [item_count, dimensions]: vectors to begin with, such as
    `behaviour_vectors`; zero rows begin at random. `holdout_share`: the newest sessions from which up to 2,000 prefixes
    are kept out of training, for the reports alone (0: none, and everything is trained on). `checkpoint`: keeps the end
    of each epoch, to go on from. Raises ValueError for arguments out of range.
    """
    settings = settings or Settings()
    if item_count < 0 or dimensions < 1 or not 0 <= epochs < 1e6 or not 0 <= holdout_share <= 0.5:
        raise ValueError("item_count, dimensions, epochs or holdout_share out of range")
    if start is not None and start.shape != (item_count, dimensions):
        raise ValueError(f"start has shape {start.shape}, not {(item_count, dimensions)}")
    rng = np.random.default_rng(seed)
    prefixes, held_out = split(sessions, holdout_share, settings.places, rng)
    if len(prefixes.vocabulary) and prefixes.vocabulary[-1] >= item_count:
        raise ValueError(f"item {prefixes.vocabulary[-1]} of {item_count}")
    known = start[prefixes.vocabulary] if start is not None else None
    parameters = _begin(len(prefixes.vocabulary), dimensions, settings.places, known, rng)
    training = _Training(prefixes, held_out, parameters, settings, rng, checkpoint)
    # Threads of the BLAS wait for each other by spinning: on two cores that others use too, they took ten times the
    # processor time of one thread. One also makes the result the same on any number of cores.
    with threadpool_limits(1, user_api="blas"):
        training.run(epochs, on_epoch)
    return _space(parameters, prefixes.vocabulary, item_count)


def _begin(count: int, dimensions: int, places: int, known: Matrix | None, rng: np.random.Generator) -> Parameters:
    vectors = rng.standard_normal((count, dimensions), np.float32) * np.float32(_START_SIZE)
    if known is not None:
        present = np.isfinite(known).all(axis=1) & (np.abs(known).max(axis=1, initial=0) > 0)
        vectors[present] = unit_rows(known[present]) * np.float32(_START_SIZE * np.sqrt(dimensions))
    return Parameters(vectors, np.zeros((places, 1), np.float32), np.zeros((count, 1), np.float32))


def _space(parameters: Parameters, vocabulary: npt.NDArray[np.int32], item_count: int) -> SessionSpace:
    sizes = np.linalg.norm(parameters.vectors, axis=1)
    factors = np.exp(parameters.importance[:, 0].astype(np.float64)) * sizes
    vectors = np.zeros((item_count, parameters.vectors.shape[1]), np.float32)
    vectors[vocabulary] = unit_rows(parameters.vectors)
    importance = np.ones(item_count, np.float32)
    if len(factors):
        importance[vocabulary] = np.where(sizes > _SIZE_MIN, factors / factors.mean(), 1.0)
    positions = np.exp(parameters.positions[:, 0] - parameters.positions[0, 0])
    return SessionSpace(vectors, importance, positions)


@dataclass
class _Adam:
    """The moments of one parameter, arrays of their own: moments that were views of a larger array would not survive
    an update that rebinds or copies them.
    """

    values: Real
    mean: Real = field(init=False)
    square: Real = field(init=False)

    def __post_init__(self) -> None:
        self.mean, self.square = np.zeros_like(self.values), np.zeros_like(self.values)

    def step(self, rows: npt.NDArray[np.int32], gradient: Real, rate: float, step: int) -> None:
        kernels.adam_rows(self.values, self.mean, self.square, rows, gradient, rate, step)


class Optimiser:
    """Lazy Adam over all parameters."""

    def __init__(self, parameters: Parameters):
        self._vectors = _Adam(parameters.vectors)
        self._positions = _Adam(parameters.positions)
        self._importance = _Adam(parameters.importance)
        self._places = np.arange(len(parameters.positions), dtype=np.int32)
        self._steps = 0

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything that the next step depends on; the arrays themselves."""
        return {
            f"{name}_{part}": getattr(moments, part)
            for name, moments in (
                ("vectors", self._vectors),
                ("positions", self._positions),
                ("items", self._importance),
            )
            for part in ("values", "mean", "square")
        }

    def restore(self, stored: Arrays, steps: int) -> None:
        self._steps = steps
        for name, array in self.state().items():
            array[:] = stored[name]

    def step(self, gradients: Gradients, rate: float) -> None:
        self._steps += 1
        self._vectors.step(gradients.rows, gradients.vectors, rate, self._steps)
        self._importance.step(gradients.context_rows, gradients.importance, rate, self._steps)
        self._positions.step(self._places, gradients.positions, rate, self._steps)
        for factor, rows in ((self._importance, gradients.context_rows), (self._positions, self._places)):
            factor.values[rows] = np.clip(factor.values[rows], -_LOG_FACTOR_MAX, _LOG_FACTOR_MAX)


class _Training:
    def __init__(
        self,
        prefixes: Prefixes,
        held_out: HeldOut,
        parameters: Parameters,
        settings: Settings,
        rng: np.random.Generator,
        checkpoint: Checkpoint | None,
    ):
        self._checkpoint = checkpoint
        self._prefixes, self._held_out, self._parameters = prefixes, held_out, parameters
        self._settings, self._rng = settings, rng
        targets = len(prefixes.targets)
        wanted = max(targets // settings.epoch_batches_min, settings.batch_min)
        self._batch = min(settings.batch_max, wanted, max(targets, 1))
        self._epoch_batches = targets // self._batch
        items = len(prefixes.vocabulary)
        frequency = prefixes.frequency()
        absent = (1 - frequency) ** self._batch * (1 - 1 / max(items, 1)) ** settings.negatives
        self._inclusion = (1 - absent).astype(np.float32)

    def run(self, epochs: float, on_epoch: Callable[[EpochReport], None] | None) -> None:
        """Trains in place. Nothing happens where there is nothing to learn from."""
        settings, parameters = self._settings, self._parameters
        steps = round(epochs * self._epoch_batches)
        began, losses = time.monotonic(), 0.0
        softmax = Softmax(*parameters.vectors.shape, temperature=settings.temperature, dropout=settings.dropout)
        optimiser = Optimiser(parameters)
        reported = self._resume(optimiser)
        for step, batch in enumerate(self._batches(reported, steps), reported + 1):
            gradients = softmax.gradients(parameters, batch)
            losses += gradients.loss
            optimiser.step(gradients, _one_cycle(step / steps, settings))
            if on_epoch is not None and (step % self._epoch_batches == 0 or step == steps):
                rates = hit_rate(parameters, self._held_out)
                on_epoch(
                    EpochReport(
                        epoch=step / self._epoch_batches,
                        epochs=epochs,
                        loss=losses / (step - reported),
                        hit_rate=rates[0] if rates else None,
                        reciprocal_rank=rates[1] if rates else None,
                        prefixes=self._held_out.count,
                        position_weights=np.exp(parameters.positions[:, 0] - parameters.positions[0, 0]),
                        seconds=time.monotonic() - began,
                    )
                )
                losses, reported = 0.0, step
            if step % self._epoch_batches == 0:
                self._keep(optimiser, step)

    def _resume(self, optimiser: Optimiser) -> int:
        """Steps that were done before, in whole epochs."""
        stored = None if self._checkpoint is None else self._checkpoint.load()
        if stored is None:
            return 0
        step = int(stored["step"])
        optimiser.restore(stored, step)
        self._prefixes.items[:], self._prefixes.weights[:] = stored["prefix_items"], stored["prefix_weights"]
        restore_random_state(self._rng, stored["random"])
        return step

    def _keep(self, optimiser: Optimiser, step: int) -> None:
        if self._checkpoint is None:
            return
        # Sessions without an order are shuffled in place, epoch after epoch.
        order = {"prefix_items": self._prefixes.items, "prefix_weights": self._prefixes.weights}
        done = {"step": np.array(step), "random": random_state(self._rng)}
        self._checkpoint.save({**optimiser.state(), **order, **done})

    def _batches(self, first: int, steps: int) -> Iterator[Batch]:
        order = np.zeros(0, np.int32)
        for step in range(first, steps):
            place = step % self._epoch_batches
            if place == 0:
                self._prefixes.shuffle(self._rng)
                order = self._rng.permutation(self._prefixes.targets)
            yield self._batch_of(order[place * self._batch : (place + 1) * self._batch])

    def _batch_of(self, targets: npt.NDArray[np.int32]) -> Batch:
        answers = self._prefixes.items[targets]
        drawn = self._rng.integers(0, len(self._prefixes.vocabulary), self._settings.negatives, np.int32)
        candidates = np.unique(np.concatenate((answers, drawn)))
        return Batch(
            contexts=self._prefixes.contexts(targets),
            candidates=candidates,
            columns=np.searchsorted(candidates, answers).astype(np.int32),
            inclusion=self._inclusion[candidates],
            key=int(self._rng.integers(0, 1 << 63)),
        )


def _one_cycle(progress: float, settings: Settings) -> float:
    """The learning rate at `progress` in 0..1: up in a line, down in half a cosine (Smith & Topin 2018)."""
    if progress < settings.warm_up:
        return settings.rate_max * progress / settings.warm_up
    left = (progress - settings.warm_up) / (1 - settings.warm_up)
    return settings.rate_max * max(0.5 * (1 + float(np.cos(np.pi * left))), 1e-3)


def hit_rate(parameters: Parameters, held_out: HeldOut) -> tuple[float, float] | None:
    """Hit rate and mean reciprocal rank among the best 20; None without prefixes. Ties count against the answer."""
    if held_out.count == 0:
        return None
    contexts = held_out.contexts
    weights = event_weights(parameters, contexts)
    queries = np.empty((held_out.count, parameters.vectors.shape[1]), np.float32)
    mask = np.empty(kernels.mask_width(queries.shape[1]), np.float32)
    kernels.encode(parameters.vectors, contexts.items, weights, contexts.segments, 0, 0, mask, queries)
    units = unit_rows(parameters.vectors)
    ranks = np.empty(held_out.count, np.int64)
    rows = max(_SCORES_A_BLOCK // len(units), 1)
    for first in range(0, held_out.count, rows):
        part = np.arange(first, min(first + rows, held_out.count))
        scores = queries[part] @ units.T
        own = scores[np.arange(len(part)), held_out.answers[part]]
        for row in np.flatnonzero(held_out.exclude[part]):
            seen = contexts.items[contexts.segments[first + row] : contexts.segments[first + row + 1]]
            scores[row, seen] = -np.inf
        scores[np.arange(len(part)), held_out.answers[part]] = -np.inf
        ranks[part] = 1 + (scores >= own[:, None]).sum(axis=1)
    found = ranks <= _HITS_AMONG
    return float(found.mean()), float(np.where(found, 1 / ranks, 0).mean())
