"""Background work that never ends: an unexpected error must not stop it for good."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

PAUSE_S = 1.0
"""Keeps work that fails at once from flooding the log and the event loop."""


async def endless(
    work: Callable[[], Awaitable[None]], name: str, logger: logging.Logger, pause_s: float = PAUSE_S
) -> None:
    """Starts it again, after a pause, whenever it raises; until it is cancelled or returns."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("broke and begins again", extra={"fields": {"work": name, "pause_s": pause_s}})
        else:
            return
        await asyncio.sleep(pause_s)
