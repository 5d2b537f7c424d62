"""How far a figure can be trusted: 95 % intervals that count sessions, not questions.

A figure is a ratio, sum of gains by number of questions, over sessions that were drawn; its variance is that of the
linearised ratio estimator (Cochran, Sampling Techniques, 1977, ch. 6), so questions of one session may go together as
they like. A share gets Wilson's interval at the number of questions that would be worth as much if they were
independent, so one of 0 or of 1 has a width too.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

Z = 1.96

Gains = npt.NDArray[np.float64]


class Interval(msgspec.Struct, frozen=True):
    """`low` and `high` of 95 %, around `value`."""

    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


def standard_error(gains: Gains, session: npt.NDArray[np.int64]) -> tuple[float, int]:
    """Of the mean of gains [n], and how many sessions are behind it. `session` [n]: from 0."""
    if len(gains) == 0:
        return 0.0, 0
    count = np.bincount(session)
    total = np.bincount(session, gains)
    total, count = total[count > 0], count[count > 0]
    sessions = len(count)
    residual = total - gains.mean() * count
    variance = float((residual**2).sum()) * sessions / max(sessions - 1, 1) / float(count.sum()) ** 2
    return math.sqrt(variance), sessions


def of_mean(gains: Gains, session: npt.NDArray[np.int64], *, low: float = 0.0, high: float = 1.0) -> Interval:
    """Of any gain; cut off at what is possible."""
    value = float(gains.mean()) if len(gains) else 0.0
    error, sessions = standard_error(gains, session)
    if sessions < 2:
        return Interval(value, low, high)
    return Interval(value, max(value - Z * error, low), min(value + Z * error, high))


def of_share(hits: npt.NDArray[np.bool_], session: npt.NDArray[np.int64]) -> Interval:
    """Of a share of hits [n]."""
    value = float(hits.mean()) if len(hits) else 0.0
    error, sessions = standard_error(hits.astype(np.float64), session)
    if sessions < 2:
        return Interval(value, 0.0, 1.0)
    n = value * (1 - value) / error**2 if error > 0 else float(sessions)
    centre = (value + Z**2 / (2 * n)) / (1 + Z**2 / n)
    reach = Z / (1 + Z**2 / n) * math.sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    return Interval(value, max(centre - reach, 0.0), min(centre + reach, 1.0))


def of_difference(one: Gains, other: Gains, session: npt.NDArray[np.int64]) -> Interval:
    """Of the mean of `one` less that of `other`, asked the same questions."""
    return of_mean(one - other, session, low=-1.0)
