"""What trying again needs: how long to wait before it, and what was heard before it."""

from __future__ import annotations

import random

from recserv.types import Explanation


class Backoff:
    """Spans that double up to a maximum, each drawn between half of it and the whole, so that clients that failed
    together do not come back together.
    """

    def __init__(self, first_s: float, max_s: float):
        self._first_s, self._max_s = first_s, max(first_s, max_s)
        self._next_s = first_s

    def next_s(self, at_least_s: float | None = None) -> float:
        """How long to wait now; not less than what the server asked for."""
        span_s, self._next_s = self._next_s, min(self._max_s, self._next_s * 2)
        return max(random.uniform(span_s / 2, span_s), at_least_s or 0.0)

    def reset(self) -> None:
        """It went well."""
        self._next_s = self._first_s


class News:
    """Which explanations have not been told yet, over several streams of the same."""

    def __init__(self) -> None:
        self._told: dict[str, Explanation] = {}

    def is_new(self, explanation: Explanation) -> bool:
        """True once for each text and state of an item."""
        if self._told.get(explanation.item_id) == explanation:
            return False
        self._told[explanation.item_id] = explanation
        return True
