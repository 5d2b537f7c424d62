"""A request's deadline, read once from the transport and counted on the monotonic clock from then on.

It is also the request's budget: a stage gets a share of what is left when it begins, so what an early stage does not
use is there for the later ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable

MonotonicClock = Callable[[], float]


class Deadline:
    """A point on the monotonic clock, seconds. Cheap enough to pass everywhere."""

    __slots__ = ("_clock", "at_s")

    def __init__(self, remaining_s: float, clock: MonotonicClock = time.monotonic):
        self._clock = clock
        self.at_s = clock() + remaining_s

    def remaining_s(self) -> float:
        """Seconds left; negative once past."""
        return self.at_s - self._clock()

    def share_s(self, share: float) -> float:
        """This share of the seconds left; 0 once past."""
        return max(0.0, (self.at_s - self._clock()) * share)

    def within(self, budget_s: float) -> Deadline:
        """The earlier of this deadline and `budget_s` from now."""
        return self if self.remaining_s() <= budget_s else Deadline(budget_s, self._clock)
