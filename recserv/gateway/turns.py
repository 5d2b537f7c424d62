"""Who writes or reads JSON when: protobuf's JSON is Python, about 70 microseconds a KiB, and the loop is everybody's.

up to SMALL_BYTES      at once
up to OFF_LOOP_BYTES   one after the other, with a turn of the loop between two: a hundred that come together delay
                       what is small, such as /healthz, by one of them for each of its own turns, and not by a hundred
larger                 on one thread beside the loop, again one after the other: more threads would not be faster,
                       and each would want the interpreter before the loop gets it back
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
            # Held until the next turn: a lock that is free again at once would be taken by the next task of this one.
            await asyncio.sleep(0)
