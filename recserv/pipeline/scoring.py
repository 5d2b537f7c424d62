"""Scoring: what scores candidates. The model's own ranker, or fixed weights if none was learned, if the ranker fails,
or if there is no session to rank by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from recserv._rank import Scorer, linear_scorer
from recserv.errors import ModelError
from recserv.model.layout import RANKER_FILE
from recserv.ranking_features import FEATURE_NAMES

if TYPE_CHECKING:
    from recserv.model.snapshot import ModelSnapshot


PLAIN_WEIGHTS = {
    "context_cosine": 0.5,
    "covisitation": 0.25,
    "session_knn": 1.5,
    "popularity": 0.05,
    "popularity_recent": 0.15,
    "in_session": 0.2,
}
"""Weights of the features if no ranker was learned, or if it fails."""
COLD_WEIGHTS = {"context_cosine": 3.0, "popularity": 0.05, "popularity_recent": 0.15}
"""For shoppers without a session, from which alone rankers learn: similarity to their search, then popularity."""


def scorer_of(snapshot: ModelSnapshot) -> Scorer:
    """The model's ranker; fixed weights if only popular items are left. Raises ModelError for unknown features."""
    ranker = snapshot.ranker
    if snapshot.popular_only:
        return linear_scorer(PLAIN_WEIGHTS)
    unknown = sorted(set(ranker.names) - set(FEATURE_NAMES))
    if unknown:
        raise ModelError(RANKER_FILE, f"feature {unknown[0]!r} is not one that this version makes")
    if ranker.kind == "linear":
        return linear_scorer(dict(zip(ranker.names, ranker.weights, strict=True)))
    return Scorer(ranker.names, ranker.mean, ranker.scale, ranker.weights, ranker.hidden, ranker.bias, ranker.out)
