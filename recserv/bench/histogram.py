"""A histogram of latencies in logarithmic buckets: constant memory, quantiles within one per cent, mergeable."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

LOWEST_S = 1e-6
HIGHEST_S = 120.0
PRECISION = 1.01
_STEP = math.log(PRECISION)
BUCKETS = math.ceil(math.log(HIGHEST_S / LOWEST_S) / _STEP) + 1


class Histogram:
    """Spans in seconds. What lies outside LOWEST_S..HIGHEST_S counts in the outermost bucket; `max_s` is exact."""

    __slots__ = ("counts", "max_s")

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros(BUCKETS, dtype=np.int64)
        self.max_s = 0.0

    def record(self, span_s: float) -> None:
        bucket = 0 if span_s <= LOWEST_S else min(BUCKETS - 1, int(math.log(span_s / LOWEST_S) / _STEP))
        self.counts[bucket] += 1
        self.max_s = max(self.max_s, span_s)

    def add(self, other: Histogram) -> None:
        self.counts += other.counts
        self.max_s = max(self.max_s, other.max_s)

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    def quantile_s(self, share: float) -> float:
        """The span that `share` (0 to 1) of the recorded ones do not exceed; NaN if there are none."""
        if self.count == 0:
            return math.nan
        wanted = max(1, math.ceil(share * self.count))
        bucket = int(np.searchsorted(np.cumsum(self.counts), wanted))
        middle: float = LOWEST_S * PRECISION ** (bucket + 0.5)
        return min(middle, self.max_s)
