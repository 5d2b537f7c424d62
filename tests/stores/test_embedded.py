from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from recserv.errors import StoreUnavailable
from recserv.stores.base import AppendEvent, AppendStatus
from recserv.stores.embedded import EmbeddedStore
from recserv.stores.sqlite_log import select_profiles
from recserv.types import Event, EventType, ShopperKey
from tests.patience import HANG_GUARD_S
from tests.stores.support import (
    START_MS,
    OpenStore,
    Recorder,
    items_of,
    make,
    put,
    read_one,
    statuses,
)

UNAVAILABLE = AppendStatus.UNAVAILABLE
PUT = EventType.ADD_TO_CART


class WriterGate:
    """Holds the writer's thread between two groups until it is opened."""

    def __init__(self, store: EmbeddedStore):
        self._opened = threading.Event()
        started = threading.Event()

        def hold() -> None:
            started.set()
            self._opened.wait()

        store._writer.call(hold, lambda result, error: None)
        assert started.wait(HANG_GUARD_S)

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def gated() -> Iterator[Callable[[EmbeddedStore], WriterGate]]:
    gates: list[WriterGate] = []

    def gate(store: EmbeddedStore) -> WriterGate:
        gates.append(WriterGate(store))
        return gates[-1]

    yield gate
    for held in gates:
        held.open()


# Groups and the queue


async def test_what_queues_up_while_a_group_is_written_is_the_next_group(
    opened: OpenStore, hooks: Recorder, gated: Callable[[EmbeddedStore], WriterGate]
) -> None:
    store = await opened(group_events_max=40)
    gate = gated(store)
    writes = [asyncio.create_task(store.append("default", [make(f"e{n}")])) for n in range(100)]
    await asyncio.sleep(0)
    assert store.queued_events == 100
    gate.open()
    await asyncio.gather(*writes)
    assert (hooks.commits, store.queued_events) == ([40, 40, 20], 0)


async def test_a_full_queue_refuses_at_once_and_takes_events_again_later(
    opened: OpenStore, hooks: Recorder, gated: Callable[[EmbeddedStore], WriterGate]
) -> None:
    store = await opened(queue_events_max=10)
    gate = gated(store)
    waiting = asyncio.create_task(store.append("default", [make(f"e{n}") for n in range(10)]))
    await asyncio.sleep(0)
    refused = await store.append("default", [make("more1"), make("more2")])
    assert statuses(refused) == [UNAVAILABLE] * 2
    assert "10 events are waiting" in refused[0].error
    assert hooks.unavailable == [(2, "queue_full")]
    gate.open()
    await waiting
    await put(store, make("more1"))


async def test_a_call_larger_than_the_queue_passes_when_nothing_waits(opened: OpenStore) -> None:
    await put(await opened(queue_events_max=10), *[make(f"e{n}") for n in range(50)])


async def test_an_event_that_has_no_encoding_does_not_spoil_its_group(opened: OpenStore, hooks: Recorder) -> None:
    store = await opened()
    bad = [
        AppendEvent(Event(event_id=event_id, session_id="session", item_id=item_id), b"hash", START_MS, START_MS)
        for event_id, item_id in [("e2", "\ud800"), ("\udfff", "a")]
    ]
    results = await store.append("default", [make("e1", "a"), *bad, make("e3", "b")])
    assert statuses(results) == [AppendStatus.ACCEPTED, UNAVAILABLE, UNAVAILABLE, AppendStatus.ACCEPTED]
    assert items_of(await read_one(store)) == ["a", "b"]
    assert hooks.unavailable == [(2, "not_encodable")]


async def test_a_fault_of_ours_in_one_group_does_not_stop_the_next(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened()
    with monkeypatch.context() as patch, caplog.at_level(logging.CRITICAL):
        patch.setattr("recserv.stores.sqlite_log.apply_to_profile", lambda *arguments: 1 / 0)
        assert statuses(await store.append("default", [make("e1")])) == [UNAVAILABLE]
    await put(store, make("e1"))
    assert [row.sequence for row in await store.log_after(0, 10)] == [1]


# Reading beside writing


async def test_a_profile_read_from_the_file_is_never_older_than_an_acknowledgement(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(profiles_in_memory_max=1)
    await put(store, make("e1", kind=EventType.ADD_TO_CART))
    await put(store, make("x", session_id="other"))
    has_read, may_answer = threading.Event(), threading.Event()

    def slow_select(*arguments: Any) -> Any:
        rows = select_profiles(*arguments)
        has_read.set()
        assert may_answer.wait(HANG_GUARD_S)
        return rows

    monkeypatch.setattr("recserv.stores.embedded.select_profiles", slow_select)
    reading = asyncio.create_task(read_one(store))
    assert await asyncio.to_thread(has_read.wait, HANG_GUARD_S)
    # Acknowledged while the row of before is on its way, and out of memory again before it gets here.
    await put(store, make("e2", kind=EventType.ADD_TO_CART))
    await put(store, make("y", session_id="other"))
    may_answer.set()
    assert (await reading).profile.cart == {"item": 2}


async def test_a_shopper_never_seen_costs_no_read_of_the_file(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(profiles_in_memory_max=1)
    await put(store, make("e1", kind=EventType.ADD_TO_CART), make("e2", session_id="other"))
    await store.close()
    store = await opened(profiles_in_memory_max=1)
    asked: list[list[str]] = []

    def counted(connection: sqlite3.Connection, keys: list[str]) -> Any:
        asked.append(keys)
        return select_profiles(connection, keys)

    monkeypatch.setattr("recserv.stores.embedded.select_profiles", counted)
    assert (await read_one(store, "stranger")).profile.cart == {}
    assert asked == []
    assert (await read_one(store)).profile.cart == {"item": 1}
    assert len(asked) == 1


async def test_reads_beyond_the_bound_are_refused(opened: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await opened(reads_waiting_max=2, profiles_in_memory_max=1)
    await put(store, *[make(f"e{n}", session_id=f"s{n}") for n in range(5)])
    go = threading.Event()
    monkeypatch.setattr(
        "recserv.stores.embedded.select_profiles", lambda connection, keys: go.wait(HANG_GUARD_S) and {}
    )
    waiting = [asyncio.create_task(read_one(store, f"s{n}")) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="waiting"):
        await read_one(store, "s3")
    # A caller that goes away makes no room: its read still occupies the thread.
    waiting[0].cancel()
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        await read_one(store, "s3")
    go.set()
    await waiting[1]
    await read_one(store, "s3")


async def test_a_file_that_cannot_be_read_makes_the_state_unavailable_until_it_can(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(profiles_in_memory_max=1)
    await put(store, make("e1"), make("e2", session_id="other"))
    with monkeypatch.context() as patch:

        def fail(*arguments: object) -> object:
            raise sqlite3.OperationalError("disk I/O error")

        patch.setattr("recserv.stores.embedded.select_profiles", fail)
        with pytest.raises(StoreUnavailable, match="disk I/O error"):
            await read_one(store)
    assert (await read_one(store)).profile.event_count == 1


async def test_a_closed_store_cannot_be_read(opened: OpenStore) -> None:
    store = await opened()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.read("default", [ShopperKey("s")])


async def test_memory_holds_a_bounded_number_of_sessions_and_profiles(opened: OpenStore, hooks: Recorder) -> None:
    store = await opened(sessions_max=3, profiles_in_memory_max=4)
    await put(store, *[make(f"e{n}", session_id=f"s{n}") for n in range(20)])
    assert (store.session_count, store.profiles_in_memory, hooks.evicted) == (3, 4, 17)
    assert (await read_one(store, "s0")).profile.event_count == 1


async def test_memory_holds_a_bounded_number_of_bytes_on_the_loop_and_on_the_writer(
    opened: OpenStore, hooks: Recorder
) -> None:
    store = await opened(memory_bytes_max=8_000)
    await put(store, *[make(f"e{n}", session_id=f"s{n}") for n in range(50)])
    assert hooks.evicted == 50 - store.session_count > 0
    assert store._live.session_bytes <= 6_000
    on_writer = await store._on_writer(lambda: store._writer.ready_log().profiles.bytes)
    assert max(store._live.profiles.bytes, on_writer) <= 1_000
    assert (await read_one(store, "s0")).profile.event_count == 1
    assert items_of(await read_one(store, "s49")) == ["item"]


async def test_the_filter_of_known_profiles_is_within_the_bound_of_memory(opened: OpenStore) -> None:
    store = await opened()
    await put(store, *[make(f"e{n}", session_id=f"s{n}", kind=PUT) for n in range(300)])
    await store.close()
    store = await opened(memory_bytes_max=16 * 1024)
    assert store._live._known.bytes <= 1024
    # It cannot tell strangers any more and still answers for whoever it knows.
    assert (await read_one(store, "s7")).profile.cart == {"item": 1}
    assert (await read_one(store, "stranger")).profile.cart == {}
