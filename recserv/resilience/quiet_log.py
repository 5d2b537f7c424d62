"""Log lines that an outage would repeat for every request: one per interval, with the number of those suppressed."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from recserv.resilience.deadline import MonotonicClock

KEYS_MAX = 256


class QuietLog:
    """At most one line per key and `interval_s`. Keys are few and fixed (a stage, an RPC and its status)."""

    def __init__(self, logger: logging.Logger, interval_s: float = 5.0, clock: MonotonicClock = time.monotonic):
        self._logger, self._interval_s, self._clock = logger, interval_s, clock
        self._seen: dict[str, tuple[float, int]] = {}

    def log(
        self,
        level: int,
        key: str,
        text: str,
        *,
        fields: Mapping[str, object] | None = None,
        error: Exception | None = None,
    ) -> None:
        """`error` adds its traceback. `repeated`: how many lines of this key were suppressed since the last one."""
        if not self._logger.isEnabledFor(level):
            return
        now_s = self._clock()
        next_s, left_out = self._seen.get(key, (now_s, 0))
        if now_s < next_s:
            self._seen[key] = (next_s, left_out + 1)
            return
        if len(self._seen) >= KEYS_MAX:
            self._seen.clear()
        self._seen[key] = (now_s + self._interval_s, 0)
        extra = {"fields": {**(fields or {}), **({"repeated": left_out} if left_out else {})}}
        self._logger.log(level, text, extra=extra, exc_info=error)
