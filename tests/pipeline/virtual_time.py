"""Time that passes only while nothing else happens, and then at once: what waits for a moment waits for no machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recserv.resilience.deadline import MonotonicClock


@contextmanager
def virtual_time() -> Iterator[MonotonicClock]:
    """The running loop's clock, which goes on to the next timer as soon as no task can run. Not for tests that wait for
    another thread or for a socket: they would be too late for any time limit.
    """
    loop: Any = asyncio.get_running_loop()
    # Not from what the clock says: sums of fractions round by where they begin, and what is due at one moment would
    # come in one order or the other by how long the machine has been up.
    run_once, now_s = loop._run_once, 0.0

    def jump_and_run() -> None:
        nonlocal now_s
        if not loop._ready:
            timers = [timer.when() for timer in loop._scheduled if not timer.cancelled()]
            now_s = max(now_s, min(timers, default=now_s))
        run_once()

    loop.time, loop._run_once = lambda: now_s, jump_and_run
    try:
        yield loop.time
    finally:
        del loop.time, loop._run_once
