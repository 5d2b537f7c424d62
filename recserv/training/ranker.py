"""The ranker's file. For now a fixed linear one: the features that the pipeline computes and what each is worth."""

from __future__ import annotations

import msgspec

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
    ranker = {"kind": "linear", "names": list(LINEAR_WEIGHTS), "weights": list(LINEAR_WEIGHTS.values())}
    return msgspec.json.encode(ranker) + b"\n"
