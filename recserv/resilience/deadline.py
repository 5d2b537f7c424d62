"""A request's deadline, read once from the transport and counted on the monotonic clock from then on."""

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
