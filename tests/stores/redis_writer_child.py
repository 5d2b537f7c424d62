"""Run as a program: appends the same events as every other such program, in an order of its own, and says how many of
them were new.

python -m tests.stores.redis_writer_child URL EVENTS SEED
"""

from __future__ import annotations

import asyncio
import random
import sys

from recserv.stores.base import AppendEvent, AppendStatus
from recserv.stores.redis import RedisLimits, RedisStore
from recserv.types import EventType
from tests.stores.redis_support import PATIENT
from tests.stores.support import START_MS, ManualClock, make

GROUP_EVENTS, IN_FLIGHT = 5, 4
SESSIONS, USERS = 7, 3


def shared_events(count: int) -> list[AppendEvent]:
    return [
        make(
            f"e{n}",
            f"i{n % 5}",
            session_id=f"s{n % SESSIONS}" if n % 6 else "",
            user_id=f"u{n % USERS}" if n % 6 == 0 or n % 2 else "",
            kind=EventType.ADD_TO_CART,
        )
        for n in range(count)
    ]


async def run(url: str, count: int, seed: int) -> None:
    store = RedisStore(url, clock=ManualClock(START_MS), limits=RedisLimits(timeouts=PATIENT))
    await store.open()
    events = shared_events(count)
    random.Random(seed).shuffle(events)
    groups = [events[at : at + GROUP_EVENTS] for at in range(0, count, GROUP_EVENTS)]
    accepted = 0
    for at in range(0, len(groups), IN_FLIGHT):
        answers = await asyncio.gather(*[store.append("default", group) for group in groups[at : at + IN_FLIGHT]])
        statuses = [result.status for answer in answers for result in answer]
        assert set(statuses) <= {AppendStatus.ACCEPTED, AppendStatus.DUPLICATE}
        accepted += statuses.count(AppendStatus.ACCEPTED)
    await store.close()
    print(accepted)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
