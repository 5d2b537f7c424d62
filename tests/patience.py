"""How long tests wait. A test of the gate never depends on how fast the machine is: it waits for what must happen, and
the one limit there is only ends a wait that would never end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable

LANES = ("slow", "chaos", "fuzz", "soak", "benchmark", "clients", "deploy", "web")
"""Marks of the tests that the gate leaves to `.ci/long`."""
HANG_GUARD_S = 60.0
"""Of a single wait: a process that starts or stops, a call to a server, a condition that must come true."""
TEST_GUARD_S = 5 * HANG_GUARD_S
"""Of a whole test of the gate, which may wait for several things."""
PATIENT_SERVER = [
    *(f"--{what}-ms={HANG_GUARD_S * 1000:.0f}" for what in ("recommend-budget", "default-deadline", "drain")),
    *(f"--redis-{what}-timeout-ms={HANG_GUARD_S * 1000:.0f}" for what in ("connect", "read", "write")),
]
"""Flags of a `recserv serve` that degrades nothing because the machine stood still for a moment."""
POLL_S = 0.005


def eventually(true: Callable[[], object], what: str = "") -> None:
    """Waits for what another thread or process is about to do."""
    give_up_s = time.monotonic() + HANG_GUARD_S
    while not true():
        assert time.monotonic() < give_up_s, f"never happened: {what or true}"
        time.sleep(POLL_S)


async def eventually_async(true: Callable[[], object | Awaitable[object]], what: str = "") -> None:
    """`eventually` for an event loop: other tasks go on meanwhile. `true` may be a coroutine function."""
    give_up_s = time.monotonic() + HANG_GUARD_S
    while True:
        found = true()
        if await found if isawaitable(found) else found:
            return
        assert time.monotonic() < give_up_s, f"never happened: {what or true}"
        await asyncio.sleep(POLL_S)
