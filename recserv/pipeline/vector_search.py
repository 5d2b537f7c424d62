"""Where a vector search runs: on the event loop if its work is bounded, else on the engine's side thread.

A search of lists or of a graph in memory takes ten to a hundred microseconds and never blocks. The hand-over to another
thread and the wake-up would take longer than most searches, and a third of the processor time of the whole request; the
lists that other sources read on the loop are in the same memory. An index that may block (on a network or a lock) is
searched on the thread, where it can be abandoned.

Searches may be slow nevertheless (the machine swaps, or lacks processor time): if SLOW_STREAK searches in a row took
SLOW_S on the loop, the next ones run on the thread, for QUARANTINE_S. A single slow one may just have touched cold
memory.
"""

from __future__ import annotations

import asyncio
import time

import numpy as np
import numpy.typing as npt

from recserv.index.base import NOWHERE, VectorIndex
from recserv.pipeline.side_thread import SideThread
from recserv.resilience.deadline import MonotonicClock

ItemRows = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Neighbours = tuple[ItemRows, Floats]

SLOW_S = 0.005
SLOW_STREAK = 3
QUARANTINE_S = 10.0


class VectorSearch:
    def __init__(self, index: VectorIndex, *, clock: MonotonicClock = time.monotonic):
        self.thread = SideThread("recserv-search", clock=clock)
        self._index = index
        self._clock = clock
        self._slow = 0
        self._on_the_spot_from_s = clock() if index.bounded else float("inf")

    @property
    def on_the_spot(self) -> bool:
        """Whether the next search runs on the event loop."""
        return self._clock() >= self._on_the_spot_from_s

    def later(self, query: Floats, k: int, near: ItemRows = NOWHERE) -> asyncio.Future[Neighbours]:
        """Searches on the thread. Raises TooManyWaiting."""
        return self.thread.start(self._index.search, query, k, near)

    def now(self, query: Floats, k: int, near: ItemRows = NOWHERE) -> Neighbours:
        """Searches on the event loop. Raises what the search raises."""
        began_s = self._clock()
        found = self._index.search(query, k, near)
        ended_s = self._clock()
        self._slow = self._slow + 1 if ended_s - began_s > SLOW_S else 0
        if self._slow >= SLOW_STREAK:
            self._slow = 0
            self._on_the_spot_from_s = ended_s + QUARANTINE_S
        return found

    def close(self) -> None:
        """Ends the thread, without waiting for a search that hangs."""
        self.thread.close()
