"""Versions in Redis: how many commands a probe takes, and what it makes of records that are none."""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import pairwise

import pytest

from recserv.stores.packed import VERSION_BYTES
from recserv.stores.redis_faults import Fault
from recserv.stores.redis_keys import partition_of, session_name
from recserv.stores.redis_versions import read_versions
from recserv.types import MARK_BYTES, Event, EventType, ShopperKey, UserPast
from tests.redis_server import RedisServer
from tests.stores.redis_support import RedisBackend
from tests.stores.support import START_MS, ManualClock, make, put


async def test_a_probe_for_hundreds_of_shoppers_is_one_command(server: RedisServer) -> None:
    store = await RedisBackend(server.url).start(ManualClock())
    keys = [ShopperKey(f"s{n}", "user" if n % 2 else "") for n in range(200)]
    await put(store, *(make(f"e{n}", session_id=f"s{n}") for n in range(200)))
    with server.client() as client:
        client.config_resetstat()
        versions = await store.versions("default", keys)
        stats = client.info("commandstats")
    assert (len(versions), min(map(max, versions)) > 0) == (200, True)
    assert stats["cmdstat_eval"]["calls"] == 1
    # A session and its profile each, and those of the one user.
    assert stats["cmdstat_getrange"]["calls"] == 402
    assert "cmdstat_mget" not in stats
    await store.close()


async def test_a_record_of_another_type_or_too_short_is_no_version_and_hides_no_other(server: RedisServer) -> None:
    store = await RedisBackend(server.url).start(ManualClock())
    await put(store, make("e", session_id="good"))
    [before] = await store.versions("default", [ShopperKey("good")])
    with server.client() as client:
        for name, write in (("list", client.rpush), ("short", client.set)):
            write(partition_of("default", name).session(session_name(name)), b"x")
    keys = [ShopperKey(name) for name in ("list", "good", "short")]
    assert await store.versions("default", keys) == [(0, 0), before, (0, 0)]
    await store.close()


async def test_an_event_in_the_place_of_one_that_a_failover_lost_is_another_version(server: RedisServer) -> None:
    store = await RedisBackend(server.url).start(ManualClock())
    # A primary that had not heard of the last event gives its number to the next one.
    for session_id, user_id in (("s", ""), ("", "u")):
        key = ShopperKey(session_id, user_id)
        lost, instead = (
            make(item_id, item_id, at=at_ms, session_id=session_id, user_id=user_id)
            for item_id, at_ms in (("a", START_MS), ("b", START_MS + 1))
        )
        await put(store, lost)
        [before] = await store.versions("default", [key])
        [read_before] = await store.read("default", [key])
        with server.client() as client:
            client.flushall()
        await put(store, instead)
        [after] = await store.versions("default", [key])
        [read_after] = await store.read("default", [key])
        assert read_before.profile.sequence == read_after.profile.sequence, "the number alone does not tell"
        assert before != after
    await store.close()


async def test_an_import_and_a_flush_are_other_versions(server: RedisServer) -> None:
    store = await RedisBackend(server.url).start(ManualClock())
    keys = [ShopperKey("", "u"), ShopperKey("s", "u")]
    await put(store, make("e", session_id="s", user_id="u"))
    seen = [await store.versions("default", keys)]
    bought = Event(event_id="p", event_type=EventType.PURCHASE, user_id="u", item_id="i", event_time_ms=START_MS - 1)
    [result] = await store.import_pasts("default", [UserPast("u", (bought,), bytes(MARK_BYTES))])
    assert result.added == 1
    seen.append(await store.versions("default", keys))
    with server.client() as client:
        client.flushall()
    seen.append(await store.versions("default", keys))
    for before, after in pairwise(seen):
        assert [old != new for old, new in zip(before, after, strict=True)] == [True, True]
    await store.close()


class Cluster:
    """Of a router what is asked for versions. `down`: slots whose node does not answer."""

    by_slot = True

    def __init__(self, down: Container[int] = ()):
        self.down = down

    def begin(self, slot: int, args: Sequence[bytes | str | int], *, write: bool) -> int:
        return int(args[2])

    async def finish(self, slot: int, call: int, *, write: bool) -> object:
        if slot in self.down:
            raise Fault("refused", "nobody listens")
        return [b"\1" * VERSION_BYTES] * call


async def test_a_node_that_is_down_hides_what_it_has_and_no_more() -> None:
    keys = [ShopperKey("s0"), ShopperKey("s1"), ShopperKey("s0", "u"), ShopperKey("", "u")]
    slots = [partition_of("default", name).slot for name in ("s0", "s1", "u")]
    of_session, of_user, of_both = await read_versions(Cluster(), "default", [keys[0], keys[3], keys[2]])  # type: ignore[arg-type]
    down = await read_versions(Cluster([slots[2]]), "default", keys)  # type: ignore[arg-type]
    assert down == [of_session, of_session, (), ()]
    down = await read_versions(Cluster([slots[0]]), "default", keys)  # type: ignore[arg-type]
    assert down == [(), of_session, (), of_user]
    assert len(of_both) == 4
    with pytest.raises(Fault):
        await read_versions(Cluster(slots), "default", keys)  # type: ignore[arg-type]
