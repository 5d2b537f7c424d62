"""The engine's thread: vector searches run here, because a search can neither be cancelled nor be trusted to return.

The event loop starts a search, works on the other sources meanwhile, and waits no longer than its budget. hnswlib
releases the interpreter lock, so both really run at once. At most `pending_max` searches are under way or queued:
behind a search that hangs, later requests are told at once that there is no index instead of waiting for it.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from recserv.errors import IndexUnavailable
from recserv.index.base import VectorIndex

Neighbours = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]


class SearchThread:
    def __init__(self, index: VectorIndex, *, pending_max: int = 64):
        self._index = index
        self._pending_max = pending_max
        self._pending = 0
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recserv-search")

    @property
    def pending(self) -> int:
        return self._pending

    def start(self, query: npt.NDArray[np.float32], k: int) -> asyncio.Future[Neighbours]:
        """Begins a search. Raises IndexUnavailable if too many are waiting already."""
        if self._pending >= self._pending_max:
            raise IndexUnavailable(f"{self._pending} searches are waiting")
        self._pending += 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, self._index.search, query, k)
        future.add_done_callback(self._finished)
        return future

    def _finished(self, future: asyncio.Future[Neighbours]) -> None:
        self._pending -= 1
        if not future.cancelled():
            # Marks the error as seen: a search that outlived its request has nobody else to look at it.
            future.exception()

    def close(self) -> None:
        """Does not wait for a search that hangs."""
        self._executor.shutdown(wait=False, cancel_futures=True)
