"""Redis Cluster and Sentinel, real ones on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from recserv.stores.base import AppendEvent, AppendStatus
from recserv.stores.redis import RedisLimits, RedisStore
from recserv.stores.redis_faults import Fault
from recserv.stores.redis_keys import partition_of, session_name
from recserv.stores.redis_router import RedisTimeouts
from recserv.types import ShopperKey
from tests.patience import HANG_GUARD_S, eventually_async
from tests.redis_groups import RedisCluster, running_cluster, running_sentinel
from tests.stores.contract import StoreContract
from tests.stores.past_contract import PastContract
from tests.stores.redis_support import PATIENT, RedisBackend
from tests.stores.support import Recorder, make, put, read_one, statuses

ACCEPTED, UNAVAILABLE = AppendStatus.ACCEPTED, AppendStatus.UNAVAILABLE


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


class TestRedisCluster(StoreContract):
    @pytest.fixture
    def backend(self, cluster: RedisCluster) -> RedisBackend:
        cluster.flush()
        return RedisBackend(cluster.url)


class TestRedisClusterPast(PastContract):
    @pytest.fixture
    def backend(self, cluster: RedisCluster) -> RedisBackend:
        cluster.flush()
        return RedisBackend(cluster.url)


async def open_store(url: str, hooks: Recorder, timeouts: RedisTimeouts = PATIENT) -> RedisStore:
    store = RedisStore(url, hooks=hooks, limits=RedisLimits(timeouts=timeouts))
    await store.open()
    return store


async def taken(store: RedisStore, append: AppendEvent) -> bool:
    return statuses(await store.append("default", [append])) != [UNAVAILABLE]


async def test_a_shop_is_spread_over_all_nodes(cluster: RedisCluster, hooks: Recorder) -> None:
    cluster.flush()
    store = await open_store(cluster.url, hooks)
    await put(store, *[make(f"e{n}", session_id=f"s{n}", user_id=f"u{n}") for n in range(300)])
    states = await store.read("default", [ShopperKey(f"s{n}", f"u{n}") for n in range(300)])
    assert [state.profile.event_count for state in states] == [1] * 300
    for node in cluster.nodes:
        with node.client() as client:
            assert client.dbsize() > 300
    await store.close()


async def test_a_slot_that_moves_is_followed(cluster: RedisCluster, hooks: Recorder) -> None:
    cluster.flush()
    store = await open_store(cluster.url, hooks)
    await put(store, make("e0", "a"))
    slot = partition_of("default", "session").slot
    clients = [redis.Redis(port=node.port) for node in cluster.nodes]
    ids = [client.execute_command("CLUSTER MYID").decode() for client in clients]
    owner = next(n for n, client in enumerate(clients) if client.execute_command("CLUSTER COUNTKEYSINSLOT", slot))
    target = (owner + 1) % len(clients)
    clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[owner])
    clients[owner].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    # Half moved: some keys are here and some there, for which the cluster has no answer but to try again.
    keys = clients[owner].execute_command("CLUSTER GETKEYSINSLOT", slot, 100)
    session = partition_of("default", "session").session(session_name("session"))
    migrate = ["MIGRATE", "127.0.0.1", cluster.nodes[target].port, "", 0, round(HANG_GUARD_S * 1000), "KEYS"]
    clients[owner].execute_command(*migrate, session)
    with pytest.raises(Fault) as caught:
        await read_one(store)
    assert caught.value.cause == "tryagain"
    # All there: what is read is sent on, call by call. A new event has keys that are nowhere yet, so it must wait.
    clients[owner].execute_command(*migrate, *[key for key in keys if key != session])
    assert (await read_one(store)).profile.event_count == 1
    assert statuses(await store.append("default", [make("e1", "b")])) == [UNAVAILABLE]
    for number in (target, owner, 3 - target - owner):
        clients[number].execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    await put(store, make("e1", "b"))
    assert (await read_one(store)).profile.event_count == 2
    await store.close()
    assert (hooks.unavailable, hooks.read_failures) == ([(1, "tryagain")], ["tryagain"])


@pytest.mark.slow
async def test_a_node_that_is_away_costs_its_own_shoppers_only(tmp_path: Path, hooks: Recorder) -> None:
    with running_cluster(tmp_path, "--cluster-require-full-coverage", "no") as cluster:
        store = await open_store(cluster.url, hooks)
        events = [make(f"e{n}", session_id=f"s{n}") for n in range(90)]
        await put(store, *events)
        cluster.nodes[0].kill()
        outcomes = statuses(await store.append("default", [make(f"f{n}", session_id=f"s{n}") for n in range(90)]))
        assert 15 <= outcomes.count(UNAVAILABLE) <= 45
        assert outcomes.count(ACCEPTED) == 90 - outcomes.count(UNAVAILABLE)
        await store.close()


@pytest.mark.slow
async def test_a_failover_is_labelled_and_over(tmp_path: Path, hooks: Recorder) -> None:
    with running_sentinel(tmp_path) as group:
        with pytest.raises(Fault) as caught:
            await open_store(group.url.replace("/shop", "/other"), hooks)
        assert caught.value.cause == "no_primary"
        store = await open_store(group.url, hooks, RedisTimeouts(connect_s=0.5, read_s=0.5, write_s=0.5))
        await put(store, *[make(f"e{n}") for n in range(10)])
        with redis.Redis(port=group.primary.port) as client:
            assert client.wait(1, round(HANG_GUARD_S * 1000)) == 1
        group.primary.kill()
        assert statuses(await store.append("default", [make("lost")])) == [UNAVAILABLE]
        with pytest.raises(Fault):
            await read_one(store)
        await eventually_async(lambda: taken(store, make("again")), "the new primary takes events")
        assert group.primary_port() == group.replica.port
        assert (await read_one(store)).profile.event_count >= 11
        causes = {cause for _, cause in hooks.unavailable} | set(hooks.read_failures)
        assert causes <= {"refused", "connection_lost", "readonly", "timeout", "no_primary", "masterdown", "loading"}
        await store.close()


@pytest.mark.slow
async def test_a_failover_by_hand_is_followed(tmp_path: Path, hooks: Recorder) -> None:
    with running_sentinel(tmp_path) as group:
        store = await open_store(group.url, hooks)
        await put(store, make("e0"))

        def failed_over() -> bool:
            with group.sentinel.client() as client, contextlib.suppress(redis.ResponseError):
                # Refused as long as the sentinel has not seen enough of the replica, and while it is under way.
                client.execute_command("SENTINEL FAILOVER", "shop")
            return group.primary_port() != group.primary.port

        await eventually_async(failed_over, "the sentinel names the replica")
        # The old primary is a replica by now or will be soon: READONLY there, the answer from the new one.
        await eventually_async(lambda: taken(store, make("e1")), "the new primary takes events")
        assert (await read_one(store)).profile.event_count == 2
        await store.close()
