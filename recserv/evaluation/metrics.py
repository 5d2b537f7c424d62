"""Next-item metrics over the rank of one target each (0: not among the k).

HR@k    share of targets among the k          (papers also say P@k, recall@k)
MRR@k   mean of 1 / rank                      (0 beyond k)
NDCG@k  mean of 1 / log2(rank + 1)            (one relevant item, so the ideal gain is 1)
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt


class NextItemMetrics(msgspec.Struct, frozen=True):
    count: int
    hit_rate: float
    reciprocal_rank: float
    ndcg: float


def next_item_metrics(ranks: npt.NDArray[np.int64]) -> NextItemMetrics:
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
