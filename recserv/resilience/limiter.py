"""An adaptive concurrency limit: how many calls may be inside the server at once, derived from how long they wait.

    GradientLimit   the algorithm: (calls inside, time of work, time of waiting) -> limit
    verdict         the decision: (calls inside, limit, criticality, full answers that wait) -> what a call gets

After Gradient2 of Netflix's concurrency-limits and Envoy's gradient controller: limit x gradient + headroom, where the
gradient is the time that a call should take over the time that it takes, between 0.5 and 1, the headroom the square
root of the limit, smoothed. While the server is below its limit its times say nothing: a lowered limit then slowly
returns to its initial value, so that an overload of an hour ago does not turn the next burst away.

Both of those estimate the time without a queue from the shortest times seen, and must lower the limit now and then to
measure it again. Here calls wait in a queue of our own, and waiting is measured apart from work: the time of work is
the time without a queue, in every window and under any load.

Only full answers count towards the wait. Brief ones cost so much less that many more of them may be inside; they still
count as inside, so that the more of them there are, the fewer full ones are begun. (Not counting them was tried: at
three times the load, the full answers then took what a third of the brief ones would have needed.)

In a flood of calls of normal criticality only brief answers are inside, and a bound on the calls inside would leave no
full answers for critical calls either. So these may exceed it, as long as hardly any wait to begin. Their short waits
say nothing about the limit: counted, they would raise it, let the others' full answers in, and it would fall again.

Pure: no clock, no I/O.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from recserv.types import Priority


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`wait_s`: how long a call may wait before the limit falls. A limit is a number of calls."""

    initial: float = 40.0
    lowest: float = 2.0
    highest: float = 256.0
    wait_s: float = 0.004
    smoothing: float = 0.3
    recovery: float = 0.02
    gradient_min: float = 0.5


class GradientLimit:
    __slots__ = ("_settings", "limit")

    def __init__(self, settings: LimitSettings | None = None):
        self._settings = settings or LimitSettings()
        self.limit = self._settings.initial

    def update(self, inside: int, work_s: float, waited_s: float) -> float:
        """One window: calls `inside` at its end, mean time of work, time waited before it. Returns the new limit."""
        settings = self._settings
        if inside < self.limit / 2:
            self.limit += settings.recovery * max(0.0, settings.initial - self.limit)
            return self.limit
        gradient = (work_s + settings.wait_s) / (work_s + max(waited_s, 1e-9))
        gradient = min(1.0, max(settings.gradient_min, gradient))
        wanted = self.limit * gradient + self.limit**0.5
        smoothed = self.limit + settings.smoothing * (wanted - self.limit)
        self.limit = min(settings.highest, max(settings.lowest, smoothed))
        return self.limit


class Verdict(IntEnum):
    FULL = 0
    BRIEF = 1
    """Popular items at once, without state, search or ranking."""
    REJECT = 2
    URGENT = 3
    """A full answer beyond the limit."""


# In multiples of the limit: up to the first a full answer, up to the second a brief one.
_BOUNDS: dict[int, tuple[float, float]] = {
    Priority.LOW: (0.7, 1.5),
    Priority.NORMAL: (1.0, 6.0),
    Priority.HIGH: (1.5, 8.0),
}
URGENT_WAITING = 0.25
"""In multiples of the limit: a HIGH call gets a full answer while fewer than this wait, whatever else is inside."""
REJECT_BEYOND = {priority: brief for priority, (_full, brief) in _BOUNDS.items()}
"""By priority, in multiples of the limit: beyond it no call is answered, so its message need not be read."""


def verdict(inside: int, limit: float, priority: int, waiting: int = 0) -> Verdict:
    """What a call of this priority gets while so many are inside, itself among them, and so many full answers wait to
    be begun. An unknown priority is NORMAL.
    """
    full, brief = _BOUNDS.get(priority, _BOUNDS[Priority.NORMAL])
    if inside > brief * limit:
        return Verdict.REJECT
    if inside <= full * limit:
        return Verdict.FULL
    urgent = priority == Priority.HIGH and waiting < URGENT_WAITING * limit
    return Verdict.URGENT if urgent else Verdict.BRIEF
