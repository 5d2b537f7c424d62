"""Run as a program: appends events to an embedded store and says which are acknowledged, one line for each.

python -m tests.stores.acknowledging_child FILE PREFIX EVENTS GROUP SYNCHRONOUS
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from recserv.stores.base import AppendStatus
from recserv.stores.embedded import EmbeddedStore
from recserv.types import EventType
from tests.stores.support import make

KINDS = (EventType.VIEW, EventType.ADD_TO_CART, EventType.PURCHASE, EventType.IMPRESSION)


async def run(path: str, prefix: str, events: int, group: int, synchronous: str) -> None:
    store = EmbeddedStore(path, _synchronous=synchronous)
    await store.open()
    for start in range(0, events, group):
        now_ms = time.time_ns() // 1_000_000
        names = [f"{prefix}-{number}" for number in range(start, min(start + group, events))]
        appends = [
            make(f"<<{name}>>", f"i{number % 9}", session_id=f"s{number % 5}", at=now_ms, kind=KINDS[number % 4])
            for number, name in enumerate(names)
        ]
        results = await store.append("default", appends)
        assert all(result.status == AppendStatus.ACCEPTED for result in results), results
        lines = [f"<<ack {name}>> {result.sequence}\n" for name, result in zip(names, results, strict=True)]
        os.write(1, "".join(lines).encode())
    await store.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
