"""Run as a program: reads the event log as a consumer of a group, says what it was given, and acknowledges nothing.

python -m tests.stores.dying_consumer URL
"""

from __future__ import annotations

import asyncio
import sys

from recserv.stores.redis_tail import RedisLogTail
from tests.stores.redis_support import PATIENT


async def run(url: str) -> None:
    tail = RedisLogTail(url, tenant="default", group="warehouse", consumer="dying", timeouts=PATIENT)
    await tail.open()
    print(*[tailed.entry.append.event.event_id for tailed in await tail.read()], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
