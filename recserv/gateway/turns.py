"""When JSON is written or read: protobuf's JSON is Python, about 70 microseconds a KiB, and everybody shares the loop.

up to SMALL_BYTES      at once
up to OFF_LOOP_BYTES   one after the other, with a turn of the loop in between: a hundred that come together delay
                       small work, such as /healthz, by one of them in each turn that it takes, not by a hundred
larger                 on one thread beside the loop, again one after the other: more threads would not be faster,
                       and each could take the GIL before the loop gets it back
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

SMALL_BYTES = 4 * 1024
OFF_LOOP_BYTES = 64 * 1024
_thread = ThreadPoolExecutor(1, "json")
_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def in_turn(size: int, work: Callable[[], T]) -> T:
    """What `work` returns or raises. `size`: bytes that it reads or writes."""
    if size <= SMALL_BYTES:
        return work()
    loop = asyncio.get_running_loop()
    if size > OFF_LOOP_BYTES:
        return await loop.run_in_executor(_thread, work)
    lock = _locks.get(loop)
    if lock is None:
        lock = _locks[loop] = asyncio.Lock()
    async with lock:
        try:
            return work()
        finally:
            # Held until the next turn: if it were released at once, the next task of this turn would take it.
            await asyncio.sleep(0)
