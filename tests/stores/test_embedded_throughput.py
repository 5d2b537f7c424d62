from __future__ import annotations

import time
from pathlib import Path

import pytest

from recserv.stores.embedded import EmbeddedStore
from tests.stores.support import make, put

SINGLE_EVENTS = 500
GROUP_EVENTS = 100
GROUPS = 40


@pytest.mark.benchmark
async def test_groups_of_a_hundred_store_at_least_five_times_the_events_of_single_appends(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "state.db")
    await store.open()
    now_ms = time.time_ns() // 1_000_000
    started_s = time.perf_counter()
    for number in range(SINGLE_EVENTS):
        await put(store, make(f"one-{number}", f"i{number % 50}", session_id=f"s{number % 50}", at=now_ms))
    single_per_s = SINGLE_EVENTS / (time.perf_counter() - started_s)
    started_s = time.perf_counter()
    for group in range(GROUPS):
        events = [
            make(f"many-{group}-{number}", f"i{number % 50}", session_id=f"s{number % 50}", at=now_ms)
            for number in range(GROUP_EVENTS)
        ]
        await put(store, *events)
    grouped_per_s = GROUPS * GROUP_EVENTS / (time.perf_counter() - started_s)
    await store.close()
    print(f"{single_per_s:.0f} events/s one by one, {grouped_per_s:.0f} in groups, x{grouped_per_s / single_per_s:.1f}")
    assert grouped_per_s >= 5 * single_per_s
