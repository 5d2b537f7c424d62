"""Next-item metrics over the rank of one target each (0: not among the k).

HR@k    share of targets among the k          (papers also say P@k, recall@k)
MRR@k   mean of 1 / rank                      (0 beyond k)
NDCG@k  mean of 1 / log2(rank + 1)            (one relevant item, so the ideal gain is 1)
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from recserv.evaluation.intervals import Gains, Interval, of_mean, of_share

Ranks = npt.NDArray[np.int64]


class NextItemMetrics(msgspec.Struct, frozen=True):
    count: int
    hit_rate: float
    reciprocal_rank: float
    ndcg: float


class MetricsAt(msgspec.Struct, frozen=True):
    """At one k, each with its interval."""

    k: int
    hit_rate: Interval
    reciprocal_rank: Interval
    ndcg: Interval


def next_item_metrics(ranks: Ranks) -> NextItemMetrics:
    """ranks: int [n], from 1; 0 for a miss. All metrics are 0 for n = 0."""
    if len(ranks) == 0:
        return NextItemMetrics(0, 0.0, 0.0, 0.0)
    hits = ranks[ranks > 0].astype(np.float64)
    n = len(ranks)
    return NextItemMetrics(
        count=n,
        hit_rate=len(hits) / n,
        reciprocal_rank=float((1.0 / hits).sum()) / n,
        ndcg=float((1.0 / np.log2(hits + 1.0)).sum()) / n,
    )


def within(ranks: Ranks, k: int) -> Ranks:
    """A rank beyond k is a miss."""
    return np.where(ranks <= k, ranks, 0)


def reciprocal_ranks(ranks: Ranks) -> Gains:
    return np.where(ranks > 0, 1.0 / np.maximum(ranks, 1), 0.0)


def metrics_at(ranks: Ranks, session: npt.NDArray[np.int64], k: int) -> MetricsAt:
    """`session` int64 [n]: whose question each is."""
    ranks = within(ranks, k)
    gains = np.where(ranks > 0, 1.0 / np.log2(np.maximum(ranks, 1) + 1.0), 0.0)
    return MetricsAt(
        k, of_share(ranks > 0, session), of_mean(reciprocal_ranks(ranks), session), of_mean(gains, session)
    )
