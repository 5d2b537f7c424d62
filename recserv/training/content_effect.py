"""What an item's content says about where it lies, beyond what the number of its sessions says already.

A learned vector tells two things: with what an item goes, and how much it sells. Items that sell much lie near a
direction that every session has something of; items that sell little were pushed away from it. So a vector foretold
from content alone, by items that sell, claims that the item sells as they do: placed so, items without any session
stood before all others in every search. Hence

    learned vector  =  mean of items with that many sessions  +  effect of the content  +  what content does not say

with the effect by ridge regression (Hoerl & Kennard 1970) of what is left of the vectors on what is left of the
features, once the mean by sessions is taken from both (Frisch & Waugh 1933). How strong the ridge is, and whether
content says anything, is tried on items left out, a fifth at a time.

How far to trust it (empirical Bayes, Efron & Morris 1973): a vector of n sessions shows what is the item's own at
sqrt(n / (n + h)) of its size and fills up with chance. h is read off the items left out: the fewer their sessions, the
less of the foretold effect shows in their vectors. The expected vector is then, but for its length,

    learned vector  +  gain x h / sqrt(n (n + h)) x effect,    gain = size / (1 - share explained)

without the mean by sessions, to which rare items would shrink together: their places beside each other would be lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recserv.training.linear_algebra import Matrix

FOLDS = 5
_RIDGES = 10.0 ** np.arange(-5, 0.5, 0.5)
"""By the sum of the weights: from hardly any shrinkage to one that leaves next to nothing."""
_EVIDENCE_HALVES = 2.0 ** np.arange(-4, 11, 0.5)
_KNOTS = np.log1p(np.array([3, 10, 30, 100, 300, 1000]))
ITEMS_MIN = FOLDS * (2 + len(_KNOTS))
"""Of fewer the mean by sessions, which has a coefficient for each column, leaves next to nothing of the vectors: what
is left of one item then follows from the others, whatever the content says."""
_TINY = 1e-6

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Effect:
    """`vectors` float32 [n, d]: the effect of each item's content, zero where there is none or it says nothing;
    `gain`, `evidence_half` (h): as above, in sessions. A gain of 0: vectors that were learned stay as they are.
    """

    vectors: Matrix
    gain: float
    evidence_half: float

    def weights(self, support: Matrix) -> Matrix:
        """How many times its effect is added to the learned vector of an item of `support` > 0 sessions: float32 [n];
        where support is 0, that of one session.
        """
        sessions = np.maximum(support.astype(np.float64), 1)
        half = self.evidence_half
        return (self.gain * half / np.sqrt(sessions * (sessions + half))).astype(np.float32)


def content_effect(features: Matrix, described: npt.NDArray[np.bool_], vectors: Matrix, support: Matrix) -> Effect:
    """features float32 [n, f], of the items that are `described` bool [n]; vectors float32 [n, d] from behaviour, rows
    of unit length or zero; support float32 [n], the sessions behind each: items with more weigh more.
    """
    nothing = Effect(np.zeros_like(vectors), 0.0, 0.0)
    taught = np.flatnonzero(described & (support > 0) & vectors.any(axis=1))
    if len(taught) < ITEMS_MIN:
        return nothing
    sessions = support[taught].astype(np.float64)
    weights = np.log1p(sessions)
    by_sessions = _by_sessions(sessions)
    own, _ = _less_mean(vectors[taught], by_sessions, weights)
    left, mean = _less_mean(features[taught], by_sessions, weights)
    folds = _Folds(left, own, weights)
    ridge = folds.best_ridge()
    if ridge is None:
        return nothing
    foretold = folds.foretold(ridge)
    gain, half = _trust(foretold, own, weights, sessions)
    mapping = folds.mapping(ridge).astype(np.float32)
    effect = np.zeros_like(vectors)
    rows = np.flatnonzero(described)
    usual = (_by_sessions(support[rows].astype(np.float64)) @ mean).astype(np.float32)
    effect[rows] = (features[rows] - usual) @ mapping
    return Effect(effect, gain, half)


def _by_sessions(sessions: Reals) -> Reals:
    """A broken line in the logarithm, as columns [n, 2 + knots]. No session is taken as one, which has been seen."""
    size = np.log1p(np.maximum(sessions, 1))[:, None]
    return np.hstack([np.ones_like(size), size, np.maximum(size - _KNOTS, 0)])


def _less_mean(values: Matrix, by_sessions: Reals, weights: Reals) -> tuple[Reals, Reals]:
    """What is left of values [n, c] without their mean by sessions, and the coefficients of that."""
    weighted = by_sessions * weights[:, None]
    gram = by_sessions.T @ weighted + _TINY * weights.sum() * np.eye(by_sessions.shape[1])
    mean = np.linalg.solve(gram, weighted.T @ values.astype(np.float64))
    return values - by_sessions @ mean, mean


class _Folds:
    """The regression of `own` [n, d] on `left` [n, f], on all rows but one fold's. Rows in order of popularity spread
    evenly over the folds.
    """

    def __init__(self, left: Reals, own: Reals, weights: Reals):
        self._left, self._shape = left, (left.shape[1], own.shape[1])
        parts = [slice(fold, None, FOLDS) for fold in range(FOLDS)]
        self._parts, self._total = parts, weights.sum()
        weighted = ((left[part] * weights[part, None]).T for part in parts)
        sums = [(columns @ left[part], columns @ own[part]) for part, columns in zip(parts, weighted, strict=True)]
        self._grams, self._crosses = (np.stack(each) for each in zip(*sums, strict=True))

    def mapping(self, ridge: float, without: int | None = None) -> Reals:
        """[f, d], of all rows or of all but the fold `without`."""
        gram, cross = self._grams.sum(axis=0), self._crosses.sum(axis=0)
        if without is not None:
            gram, cross = gram - self._grams[without], cross - self._crosses[without]
        return np.linalg.solve(gram + ridge * self._total * np.eye(len(gram)), cross)

    def best_ridge(self) -> float | None:
        """None: in some fold the content foretells no better than no content."""
        gains = np.array([[self._explained(ridge, fold) for fold in range(FOLDS)] for ridge in _RIDGES.tolist()])
        best = int(gains.sum(axis=1).argmax())
        return float(_RIDGES[best]) if (gains[best] > 0).all() else None

    def foretold(self, ridge: float) -> Reals:
        """[n, d]: for each row by the others."""
        found = np.empty((len(self._left), self._shape[1]))
        for fold, part in enumerate(self._parts):
            found[part] = self._left[part] @ self.mapping(ridge, fold)
        return found

    def _explained(self, ridge: float, fold: int) -> float:
        """By how much the squared distance of a fold's rows falls."""
        mapping = self.mapping(ridge, fold)
        return float(2 * (mapping * self._crosses[fold]).sum() - (mapping * (self._grams[fold] @ mapping)).sum())


def _trust(foretold: Reals, own: Reals, weights: Reals, sessions: Reals) -> tuple[float, float]:
    """Gain and evidence half: least squares of what the vectors show of what was foretold."""
    shown, size = np.einsum("ij,ij->i", foretold, own), np.einsum("ij,ij->i", foretold, foretold)
    seen = np.sqrt(sessions / (sessions + _EVIDENCE_HALVES[:, None]))
    along, across = seen @ shown, (seen**2) @ size
    best = int((np.maximum(along, 0) ** 2 / np.maximum(across, _TINY)).argmax())
    true_size = max(float(along[best] / max(across[best], _TINY)), 0.0)
    evidence = weights * seen[best] ** 2
    explained = float((evidence * (2 * shown - size)).sum() / max((evidence * (own**2).sum(axis=1)).sum(), _TINY))
    return true_size / (1 - min(max(explained, 0.0), 0.99)), float(_EVIDENCE_HALVES[best])
