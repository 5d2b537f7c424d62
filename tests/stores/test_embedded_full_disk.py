from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from recserv.stores.base import EVENT_AHEAD_MS_MAX, AppendStatus
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT
from tests.stores.support import DAY_MS, ManualClock, OpenStore, Recorder, make, put, read_one, statuses
from tests.tools import on_a_small_disk

CHILD = "tests.stores.full_disk_child"


def run_child(directory: Path, way: str) -> dict[str, Any]:
    command = [sys.executable, "-m", CHILD, str(directory), way]
    if way == "ballast":
        command = on_a_small_disk(directory, command)
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=HANG_GUARD_S)
    assert ended.returncode == 0, ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def check(answer: dict[str, Any]) -> None:
    assert answer["accepted"] > 10, answer
    assert answer["still_full"] == "UNAVAILABLE"
    assert answer["error"].startswith("the state file could not be")
    assert set(answer["causes"]) <= {"disk_full", "io_error"}
    assert answer["duplicate"] == "DUPLICATE"
    assert answer["readable"] > 0
    assert answer["again"] == "ACCEPTED"
    assert answer["complete"]
    assert answer["counters_agree"]


def test_a_file_that_may_not_grow_makes_events_unavailable_until_it_may(tmp_path: Path) -> None:
    check(run_child(tmp_path, "limit"))


def test_a_full_disk_makes_events_unavailable_until_there_is_room(tmp_path: Path) -> None:
    answer = run_child(tmp_path, "ballast")
    check(answer)
    assert answer["opens_elsewhere"] == "unavailable"


async def test_beyond_the_files_bound_events_are_unavailable_until_a_sweep(
    opened: OpenStore, clock: ManualClock, hooks: Recorder
) -> None:
    store = await opened(file_bytes_max=400_000, log_retention_ms=DAY_MS, anonymous_profile_retention_ms=DAY_MS)
    padding = {"padding": "x" * 400}
    accepted = 0
    while True:
        events = [make(f"e{accepted + n}", session_id=f"s{accepted + n}", properties=padding) for n in range(10)]
        results = await store.append("default", events)
        if statuses(results) == [AppendStatus.UNAVAILABLE] * 10:
            break
        accepted += 10
    assert accepted > 100
    assert hooks.unavailable == [(10, "disk_full")]
    assert "SQLITE_FULL" in results[0].error
    assert (await read_one(store, "s0")).profile.event_count == 1
    mixed = await store.append("default", [make("e0", session_id="s0", properties=padding), *events])
    assert statuses(mixed) == [AppendStatus.DUPLICATE, *[AppendStatus.UNAVAILABLE] * 10]
    clock.advance(DAY_MS + EVENT_AHEAD_MS_MAX + 1)
    await store.sweep()
    await put(store, *[make(f"new{n}", session_id=f"s{n}", at=clock(), properties=padding) for n in range(10)])
    assert [(row.accepted, row.swept, row.logged) for row in await store.counters()] == [(accepted + 10, accepted, 10)]
