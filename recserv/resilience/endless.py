"""Work without an end, beside the requests: an error that nobody foresaw must not be its last one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

PAUSE_S = 1.0
"""So that what breaks at once does not fill the log and the loop."""


async def endless(
    work: Callable[[], Awaitable[None]], name: str, logger: logging.Logger, pause_s: float = PAUSE_S
) -> None:
    """Begins it again when it broke, after a pause; until cancelled, or until it ends by itself."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("broke and begins again", extra={"fields": {"work": name, "pause_s": pause_s}})
        else:
            return
        await asyncio.sleep(pause_s)
