"""How fast jobs may begin, so that writing explanations never takes from recommending.

A call to a model costs the event loop some milliseconds in all: a request, a stream, a judgement. While the loop has
time to spare, jobs begin as fast as they come; while it is busy, a few a second do. On a machine that is itself busy
the loop's thread waits for a core: that is no time to spare either.
"""

from __future__ import annotations

import time
from pathlib import Path

from recserv.resilience.deadline import MonotonicClock

WINDOW_S = 0.1
BUSY_SHARE = 0.5
"""Of one core, wanted by the loop's thread: from here on it is busy."""
BUSY_JOBS_PER_S = 5.0
SCHEDULED = Path("/proc/thread-self/schedstat")
"""Linux: nanoseconds on a core, nanoseconds ready to run without one, turns (kernel: scheduler/sched-stats.rst)."""


def wanted_s() -> float:
    """Seconds for which the calling thread ran or waited for a core; those it ran, where the system says no more."""
    try:
        ran_ns, waited_ns, _ = SCHEDULED.read_bytes().split()
        return (int(ran_ns) + int(waited_ns)) / 1e9
    except (OSError, ValueError):
        return time.thread_time()


class Pace:
    """`used_s`: seconds of a core that the calling thread has wanted so far."""

    def __init__(self, clock: MonotonicClock = time.monotonic, used_s: MonotonicClock = wanted_s):
        self._clock, self._used_s = clock, used_s
        self._looked_s, self._used_then_s = clock(), used_s()
        self._began_s = 0.0
        self.busy = False

    def look(self) -> None:
        """Judges the time since the last look; wants to be called about every WINDOW_S."""
        now_s, used_s = self._clock(), self._used_s()
        if now_s - self._looked_s >= WINDOW_S / 2:
            self.busy = (used_s - self._used_then_s) / (now_s - self._looked_s) >= BUSY_SHARE
            self._looked_s, self._used_then_s = now_s, used_s

    def wait_s(self) -> float:
        """How long the next job has to wait; 0 if it may begin."""
        return max(0.0, self._began_s + 1.0 / BUSY_JOBS_PER_S - self._clock()) if self.busy else 0.0

    def began(self) -> None:
        self._began_s = self._clock()
