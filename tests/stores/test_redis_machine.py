from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from recserv.stores.base import StateStore
from recserv.stores.redis_keys import partition_of
from recserv.types import Event
from tests.redis_server import RedisServer
from tests.stores.machine import TENANTS, Stored, StoreMachine
from tests.stores.redis_support import RedisBackend, counted, logged


class RedisMachine(StoreMachine):
    server: RedisServer

    def make_backend(self) -> RedisBackend:
        with self.server.client() as client:
            client.flushall()
        return RedisBackend(self.server.url)

    def order_of(self, tenant: str, event: Event) -> Hashable:
        return partition_of(tenant, event.session_id or event.user_id)

    async def check_storage(self, store: StateStore, stored: list[Stored]) -> None:
        with redis.Redis(port=self.server.port) as client:
            for tenant in TENANTS:
                mine = [held for held in stored if held.tenant == tenant]
                in_log = sorted((entry.append.event.event_id, entry.sequence) for entry in logged(client, tenant))
                assert in_log == sorted((held.append.event.event_id, held.sequence) for held in mine)
                kinds = Counter(int(held.append.event.event_type) for held in mine)
                assert counted(client, tenant) == dict(kinds)


def test_redis_agrees_with_the_plain_model(unsynced_redis: RedisServer) -> None:
    RedisMachine.server = unsynced_redis
    run_state_machine_as_test(
        RedisMachine,
        settings=settings(
            max_examples=20,
            stateful_step_count=20,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
