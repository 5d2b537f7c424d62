"""Ranking: features -> a score for each candidate -> the best, with the part each feature had in it."""

from __future__ import annotations

import msgspec

from recserv._rank import FEATURE_NAMES, linear, top_k
from recserv.pipeline.engine import Engine, Floats, Positions
from recserv.pipeline.retrieve import Candidates

IN_SESSION = FEATURE_NAMES.index("in_session")


class Ranking(msgspec.Struct, frozen=True):
    """Best first. items: int32 [m]; scores: float32 [m]; features and shares (feature x weight): float32 [m, 6]."""

    items: Positions
    scores: Floats
    features: Floats
    shares: Floats
    in_category: frozenset[int]

    def rows(self, rows: Positions | slice) -> Ranking:
        """These rows, in this order."""
        return Ranking(self.items[rows], self.scores[rows], self.features[rows], self.shares[rows], self.in_category)


def rank(engine: Engine, candidates: Candidates, keep: int) -> Ranking:
    """The `keep` best candidates; ties by position."""
    scores = linear(candidates.features, engine.weights)
    best = top_k(candidates.items, scores, keep)
    features = candidates.features[best]
    return Ranking(candidates.items[best], scores[best], features, features * engine.weights, candidates.in_category)
