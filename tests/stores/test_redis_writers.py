"""Several processes write the same events at once: each event counts once, in every profile that it belongs to."""

from __future__ import annotations

import subprocess
from collections import Counter

import redis

from recserv.stores.redis import RedisLimits, RedisStore
from recserv.types import ShopperKey
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT
from tests.redis_server import RedisServer
from tests.stores.redis_support import PATIENT, logged
from tests.stores.redis_writer_child import shared_events
from tests.stores.support import START_MS, ManualClock
from tests.stores.tracing import python

EVENTS, WRITERS = 300, 3


async def test_events_that_three_processes_send_at_once_count_once(redis_server: RedisServer) -> None:
    commands = [
        python("tests.stores.redis_writer_child", redis_server.url, str(EVENTS), str(seed)) for seed in range(WRITERS)
    ]
    writers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for command in commands]
    outputs = [writer.communicate(timeout=HANG_GUARD_S)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * WRITERS
    assert sum(map(int, outputs)) == EVENTS
    with redis.Redis(port=redis_server.port) as client:
        assert Counter(entry.append.event.event_id for entry in logged(client)) == Counter(
            append.event.event_id for append in shared_events(EVENTS)
        )
    store = RedisStore(redis_server.url, clock=ManualClock(START_MS), limits=RedisLimits(timeouts=PATIENT))
    await store.open()
    events = [append.event for append in shared_events(EVENTS)]
    for user_id in {event.user_id for event in events if event.user_id}:
        mine = Counter(event.item_id for event in events if event.user_id == user_id)
        [state] = await store.read("default", [ShopperKey("", user_id)])
        assert (state.profile.event_count, state.profile.cart) == (mine.total(), dict(mine))
    for session_id in {event.session_id for event in events if not event.user_id}:
        mine = Counter(event.item_id for event in events if event.session_id == session_id and not event.user_id)
        [state] = await store.read("default", [ShopperKey(session_id)])
        assert (state.profile.event_count, state.profile.cart) == (mine.total(), dict(mine))
    await store.close()
