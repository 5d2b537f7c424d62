"""The engine's thread: vector searches run here, because a search can neither be cancelled nor be trusted to return.

The event loop starts a search, works on the other sources meanwhile, and waits no longer than its budget. hnswlib
releases the interpreter lock, so both really run at once. At most `pending_max` searches are under way or queued:
behind a search that hangs, later requests are told at once that there is no index instead of waiting for it.

A queue and a thread of its own instead of concurrent.futures: a hand-over costs half as much, and it is paid on every
request.
"""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from recserv.errors import IndexUnavailable
from recserv.index.base import VectorIndex

Neighbours = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
Job = tuple[npt.NDArray[np.float32], int, asyncio.Future[Neighbours]]


class SearchThread:
    """Starts with the first search; a daemon, since a search that hangs must not keep the process from ending."""

    def __init__(self, index: VectorIndex, *, pending_max: int = 64):
        self._index = index
        self._pending_max = pending_max
        self._pending = 0
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def pending(self) -> int:
        return self._pending

    def start(self, query: npt.NDArray[np.float32], k: int) -> asyncio.Future[Neighbours]:
        """Begins a search. Raises IndexUnavailable if too many are waiting already."""
        if self._pending >= self._pending_max:
            raise IndexUnavailable(f"{self._pending} searches are waiting")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="recserv-search", daemon=True)
            self._thread.start()
        future: asyncio.Future[Neighbours] = asyncio.get_running_loop().create_future()
        self._pending += 1
        self._jobs.put((query, k, future))
        return future

    def close(self) -> None:
        """Does not wait for a search that hangs."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            query, k, future = job
            outcome: Neighbours | BaseException
            try:
                outcome = self._index.search(query, k)
            except BaseException as error:  # whatever it is, the one who waits must hear of it
                outcome = error
            try:
                future.get_loop().call_soon_threadsafe(self._finish, future, outcome)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _finish(self, future: asyncio.Future[Neighbours], outcome: Neighbours | BaseException) -> None:
        self._pending -= 1
        if future.cancelled():
            return
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
            # Marks the error as seen: a search that outlived its request has nobody else to look at it.
            future.exception()
        else:
            future.set_result(outcome)
