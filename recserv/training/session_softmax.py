"""The loss of a batch of prefixes and its hand-written gradients.

    weight of an event   w = exp(position[place] + importance[item]) x weight of its type
    context              q = normalise(sum of w x E[item], entries of E dropped at random)
    score of item j      s = cosine(q, E[j]) / temperature - log P(j is a candidate of this batch)
    loss                 mean of -log softmax(s)[answer] over the batch's candidates: its answers and uniform negatives

The correction by the inclusion probability (as in Bengio & Senecal 2008) makes the sample's softmax an estimate of that
over all items. The scores never stand in memory whole: a tile of contexts at a time is multiplied, exponentiated in
place and multiplied back. Scores are bounded by 1 / temperature, so no maximum is needed; the corrections and the sums
are moved into the small factors, so that the exponential is the only pass over a tile beside the products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recserv import _session_space as kernels
from recserv.training.session_prefixes import Contexts

_TILE_ROWS = 128
_NORM_MIN = 1e-6
_PROBABILITY_MIN = 1e-9

Real = npt.NDArray[Any]
"""float32 where it trains, float64 where its gradients are checked."""


@dataclass(frozen=True)
class Parameters:
    """`vectors` [m, d]; `positions` [places, 1] and `importance` [m, 1], both logarithms of factors."""

    vectors: Real
    positions: Real
    importance: Real


@dataclass(frozen=True)
class Batch:
    """`candidates` int32 [j], distinct; `columns` int32 [b]: which of them answers; `inclusion` [j]: the probability
    that a batch has such a candidate; `key`: decides what is dropped.
    """

    contexts: Contexts
    candidates: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    inclusion: Real
    key: int


@dataclass(frozen=True)
class Gradients:
    """`rows` int32 [r]: items of the batch; `vectors` [r, d]: theirs; `context_rows` int32 [c], the first of `rows`:
    items of contexts, with `importance` [c, 1]; `positions` [places, 1]. Views of scratch: valid until the next call.
    """

    loss: float
    rows: npt.NDArray[np.int32]
    vectors: Real
    context_rows: npt.NDArray[np.int32]
    importance: Real
    positions: Real


class Softmax:
    """Computes loss and gradients for `items` items of `dimensions`; holds the scratch. One thread at a time."""

    def __init__(self, items: int, dimensions: int, *, temperature: float, dropout: float, dtype: Any = np.float32):
        self._temperature = temperature
        self._dropped = round(dropout * 256)
        self._dtype = dtype
        self._mask = np.empty(kernels.mask_width(dimensions), dtype)
        self._slot_of = np.full(items, -1, np.int32)
        self._tile = np.empty(0, dtype)
        self._gradient = np.empty((0, dimensions), dtype)

    def gradients(self, parameters: Parameters, batch: Batch) -> Gradients:
        contexts = batch.contexts
        weights = event_weights(parameters, contexts)
        sums = np.empty((len(batch.columns), parameters.vectors.shape[1]), self._dtype)
        encoded = (parameters.vectors, contexts.items, weights, contexts.segments, batch.key, self._dropped, self._mask)
        kernels.encode(*encoded, sums)
        queries, lengths = _normalised(sums)
        units, sizes = _normalised(parameters.vectors[batch.candidates])
        loss, query_slopes, unit_slopes = self._scores(queries, units, batch)
        slopes = _through_norm(query_slopes, queries, lengths)

        rows, context_count, event_slots, candidate_slots = self._slots(batch)
        gradient = self._rows_of_scratch(len(rows))
        kernels.scatter_add(gradient, candidate_slots, _through_norm(unit_slopes, units, sizes), 1.0)
        by_event = np.empty(len(contexts.items), self._dtype)
        kernels.encode_backward(*encoded, slopes, event_slots, gradient, by_event)
        by_event *= weights
        importance = np.bincount(event_slots, by_event, minlength=context_count)
        positions = np.bincount(contexts.places, by_event, minlength=len(parameters.positions))
        return Gradients(
            loss=loss,
            rows=rows,
            vectors=gradient,
            context_rows=rows[:context_count],
            importance=importance.astype(self._dtype)[:, None],
            positions=positions.astype(self._dtype)[:, None],
        )

    def _scores(self, queries: Real, units: Real, batch: Batch) -> tuple[float, Real, Real]:
        """The loss and its gradients by queries [b, d] and units [j, d]."""
        count = len(queries)
        scaled = units / self._dtype(self._temperature)
        correction = (1 / np.maximum(batch.inclusion, _PROBABILITY_MIN)).astype(self._dtype)
        corrected = scaled * correction[:, None]
        transposed = np.ascontiguousarray(scaled.T)
        totals = np.empty(count, self._dtype)
        query_slopes = np.empty_like(queries)
        unit_slopes = np.zeros_like(units)
        if len(self._tile) < _TILE_ROWS * len(units):
            self._tile = np.empty(_TILE_ROWS * len(units), self._dtype)
        for first in range(0, count, _TILE_ROWS):
            part = slice(first, min(first + _TILE_ROWS, count))
            tile = self._tile[: (part.stop - first) * len(units)].reshape(-1, len(units))
            np.matmul(queries[part], transposed, out=tile)
            np.exp(tile, out=tile)
            np.matmul(tile, correction, out=totals[part])
            np.matmul(tile, corrected, out=query_slopes[part])
            unit_slopes += tile.T @ (queries[part] / totals[part, None])
        query_slopes /= totals[:, None]
        unit_slopes *= correction[:, None]
        answers = scaled[batch.columns]
        query_slopes -= answers
        kernels.scatter_add(unit_slopes, batch.columns, queries, -1.0)
        unit_slopes /= self._dtype(count * self._temperature)
        query_slopes /= self._dtype(count)
        own = np.einsum("ij,ij->i", queries, answers) + np.log(correction[batch.columns])
        return float(np.mean(np.log(totals) - own, dtype=np.float64)), query_slopes, unit_slopes

    def _slots(self, batch: Batch) -> tuple[npt.NDArray[np.int32], int, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The distinct items, those of contexts first; how many these are; the slot of each event and candidate."""
        items = batch.contexts.items
        rows = np.empty(len(items) + len(batch.candidates), np.int32)
        event_slots, candidate_slots = np.empty_like(items), np.empty_like(batch.candidates)
        of_contexts = kernels.assign_slots(items, self._slot_of, rows, 0, event_slots)
        count = kernels.assign_slots(batch.candidates, self._slot_of, rows, of_contexts, candidate_slots)
        rows = rows[:count]
        self._slot_of[rows] = -1
        return rows, of_contexts, event_slots, candidate_slots

    def _rows_of_scratch(self, count: int) -> Real:
        """Zeros [count, d]."""
        if len(self._gradient) < count:
            self._gradient = np.empty((count + count // 4, self._gradient.shape[1]), self._dtype)
        rows = self._gradient[:count]
        rows[:] = 0
        return rows


def event_weights(parameters: Parameters, contexts: Contexts) -> Real:
    """The weight of every event of contexts: [e]."""
    logs = parameters.positions[contexts.places, 0] + parameters.importance[contexts.items, 0]
    weights: Real = np.exp(logs) * contexts.weights.astype(logs.dtype, copy=False)
    return weights


def _normalised(matrix: Real) -> tuple[Real, Real]:
    """Rows scaled to unit length, and their lengths [n, 1]. A zero row stays zero."""
    lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))[:, None]
    np.maximum(lengths, matrix.dtype.type(_NORM_MIN), out=lengths)
    return matrix / lengths, lengths


def _through_norm(slopes: Real, units: Real, lengths: Real) -> Real:
    """Gradients by rows from the gradients by their unit vectors: the part along the row is lost."""
    along = np.einsum("ij,ij->i", slopes, units)[:, None]
    result: Real = (slopes - units * along) / lengths
    return result
