"""The ranker's file. For now a fixed linear one: the features that the pipeline computes and what each is worth."""

from __future__ import annotations

from recserv.model.ranker import Ranker, encode_ranker

LINEAR_WEIGHTS = {
    "context_cosine": 0.5,
    "covisitation": 0.25,
    "session_knn": 1.5,
    "popularity": 0.05,
    "popularity_recent": 0.15,
    "in_session": 0.2,
}


def linear_ranker() -> bytes:
    """The content of `ranker.json`."""
    return encode_ranker(Ranker("linear", tuple(LINEAR_WEIGHTS), tuple(LINEAR_WEIGHTS.values())))
