"""How fast jobs may start, so that writing explanations never slows recommendations.

A call to a model costs the event loop some milliseconds in all: a request, a stream, a validation. While the loop has
time to spare, jobs start as they come; while it is busy, a few start each second. Time in which the loop's thread waits
for a core, on a machine that is itself busy, counts as busy, too.
"""

from __future__ import annotations

import time
from pathlib import Path

from recserv.resilience.deadline import MonotonicClock

WINDOW_S = 0.1
BUSY_SHARE = 0.5
"""Share of one core that the loop's thread wants; from here on it counts as busy."""
BUSY_JOBS_PER_S = 5.0
SCHEDULED = Path("/proc/thread-self/schedstat")
"""Linux: nanoseconds on a core, nanoseconds waiting for one, timeslices (kernel: scheduler/sched-stats.rst)."""


def wanted_s() -> float:
    """Seconds that the calling thread ran or waited for a core; where the system does not tell the latter, ran only."""
    try:
        ran_ns, waited_ns, _ = SCHEDULED.read_bytes().split()
        return (int(ran_ns) + int(waited_ns)) / 1e9
    except (OSError, ValueError):
        return time.thread_time()


class Pace:
    """`used_s` gives the seconds of a core that the calling thread has wanted so far."""

    def __init__(self, clock: MonotonicClock = time.monotonic, used_s: MonotonicClock = wanted_s):
        self._clock, self._used_s = clock, used_s
        self._looked_s, self._used_then_s = clock(), used_s()
        self._began_s = 0.0
        self.busy = False

    def look(self) -> None:
        """Judges the time since the last call. To be called about every WINDOW_S."""
        now_s, used_s = self._clock(), self._used_s()
        if now_s - self._looked_s >= WINDOW_S / 2:
            self.busy = (used_s - self._used_then_s) / (now_s - self._looked_s) >= BUSY_SHARE
            self._looked_s, self._used_then_s = now_s, used_s

    def wait_s(self) -> float:
        """How long the next job has to wait; 0 if it may start."""
        return max(0.0, self._began_s + 1.0 / BUSY_JOBS_PER_S - self._clock()) if self.busy else 0.0

    def began(self) -> None:
        self._began_s = self._clock()
