"""The end of a server, in bounded time: calls may take `drain_ms`, and closing the parts after them CLOSING_S in all.

A disk that stalls can hold a commit for minutes, and whatever waits for the process would kill it without a word. So a
part that does not close in time is given up and named in the log; what was acknowledged is safe in any case.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TypeVar

logger = logging.getLogger("recserv.app")

T = TypeVar("T")

CLOSING_S = 2.0
# Still granted to a part that closes after one that took all the time.
_LAST_S = 0.05


class Grace:
    """The time counts from its first use. `left`: what is being given up, in numbers for the log."""

    def __init__(self, drain_s: float):
        self._seconds = drain_s + CLOSING_S
        self._ends_s: float | None = None

    def _left_s(self) -> float:
        now_s = asyncio.get_running_loop().time()
        if self._ends_s is None:
            self._ends_s = now_s + self._seconds
        return max(self._ends_s - now_s, _LAST_S)

    async def close(
        self, what: str, close: Callable[[], Awaitable[object]], left: Callable[[], dict[str, int]] = dict
    ) -> None:
        """Waits for `close()` while there is time. Raises what it raises."""
        closing = asyncio.ensure_future(close())
        try:
            await asyncio.wait({closing}, timeout=self._left_s())
            if closing.done():
                closing.result()
                return
            logger.error("given up at the end of the grace", extra={"fields": {"what": what, **left()}})
        finally:
            closing.cancel()

    async def enter(self, stack: AsyncExitStack, what: str, part: AbstractAsyncContextManager[T]) -> T:
        """Enters `part`; `stack` leaves it again, in bounded time."""
        entered = await part.__aenter__()
        stack.push_async_callback(self.close, what, lambda: part.__aexit__(None, None, None))
        return entered
