"""What the tests of the Redis store share."""

from __future__ import annotations

from collections import Counter

import redis

from recserv.stores.packed import unpack_head
from recserv.stores.redis import RedisLimits, RedisStore
from recserv.stores.redis_keys import partitions
from recserv.stores.redis_log import RedisLogEntry, decode_entry
from recserv.stores.redis_router import RedisTimeouts
from recserv.types import Clock
from tests.patience import HANG_GUARD_S, TEST_GUARD_S
from tests.stores.support import DAY_MS

# What is tested is what the store does, not how fast a busy machine is.
PATIENT = RedisTimeouts(connect_s=HANG_GUARD_S, read_s=HANG_GUARD_S, write_s=HANG_GUARD_S)
# Nor are there commands besides those of the test: on a busy machine the look at the key of tokens would come amid it.
UNDISTURBED = RedisLimits(timeouts=PATIENT, token_key_check_s=TEST_GUARD_S)


class RedisBackend:
    def __init__(self, url: str):
        self._url = url

    async def start(self, clock: Clock) -> RedisStore:
        store = RedisStore(self._url, clock=clock, retention_ms=DAY_MS, limits=UNDISTURBED)
        await store.open()
        return store


def logged(client: redis.Redis, tenant: str = "default") -> list[RedisLogEntry]:
    """The whole log of a tenant, partition after partition. `client` must not decode."""
    pipeline = client.pipeline(transaction=False)
    for partition in partitions(tenant):
        pipeline.xrange(partition.log)
    return [decode_entry(*entry) for entries in pipeline.execute() for entry in entries]


def counted(client: redis.Redis, tenant: str = "default") -> dict[int, int]:
    """Accepted events by type: the sums of the partitions' counters."""
    pipeline = client.pipeline(transaction=False)
    for partition in partitions(tenant):
        pipeline.get(partition.head)
    total: Counter[int] = Counter()
    for head in pipeline.execute():
        total.update({kind: count for kind, count in enumerate(unpack_head(head).counts, 1) if count})
    return dict(total)
