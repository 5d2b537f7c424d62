"""When a worker that ended is started again: decided from what happened and when, nothing else.

ended after it had stayed up for a while   at once, and earlier failures are forgotten
ended sooner, or before it ever served     after a delay that doubles each time, up to a limit
never once served, ATTEMPTS times          hopeless: something is wrong that no attempt will cure
"""

from __future__ import annotations

import msgspec

FIRST_DELAY_S = 0.1
DELAY_S_MAX = 10.0
STAYED_UP_S = 30.0
ATTEMPTS = 5
TICK_S = 5.0
SILENT_TICKS_MAX = 6
"""A worker sends its metrics once a tick."""


class Slot(msgspec.Struct):
    """One worker's place in its generation. Times are monotonic seconds."""

    number: int
    pid: int = 0
    ready_since_s: float | None = None
    failures: int = 0
    """Ends in a row that came too soon."""
    starts_failed: int = 0
    """Of those, the ones before it served at all."""

    @property
    def ready(self) -> bool:
        return self.ready_since_s is not None

    @property
    def hopeless(self) -> bool:
        return self.starts_failed >= ATTEMPTS

    def forked(self, pid: int) -> None:
        self.pid = pid

    def served(self, now_s: float) -> None:
        self.ready_since_s, self.starts_failed = now_s, 0

    def ended(self, now_s: float, *, as_told: bool) -> float:
        """Notes the end; returns seconds until the next start. `as_told`: exit code 0, which is no failure."""
        stayed = self.ready_since_s is not None and (as_told or now_s - self.ready_since_s >= STAYED_UP_S)
        self.starts_failed = 0 if self.ready else self.starts_failed + 1
        self.failures = 0 if stayed else self.failures + 1
        self.pid, self.ready_since_s = 0, None
        return min(FIRST_DELAY_S * 2.0 ** (self.failures - 1), DELAY_S_MAX) if self.failures else 0.0


def all_hopeless(slots: list[Slot]) -> bool:
    """Nobody serves, and nobody will."""
    return all(slot.hopeless for slot in slots)
