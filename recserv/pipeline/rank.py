"""Ranking: features -> a score for each candidate -> the best, with the part each feature had in it."""

from __future__ import annotations

import msgspec
import numpy as np

from recserv._rank import FEATURE_NAMES, linear, top_k
from recserv.pipeline.engine import Engine, Floats, Positions
from recserv.pipeline.retrieve import Candidates

IN_SESSION = FEATURE_NAMES.index("in_session")


class Ranking(msgspec.Struct, frozen=True):
    """Best first. items: int32 [m]; scores: float32 [m], falling; shares: float32 [m, 6], feature x weight."""

    items: Positions
    scores: Floats
    shares: Floats
    in_category: frozenset[int]


def rank(engine: Engine, candidates: Candidates, keep: int) -> Ranking:
    """The `keep` best candidates; ties by position."""
    scores = linear(candidates.features, engine.weights)
    best = top_k(candidates.items, scores, keep)
    shares = np.asarray(candidates.features[best] * engine.weights, np.float32)
    return Ranking(candidates.items[best], scores[best], shares, candidates.in_category)
