from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from recserv.stores.base import EVENT_AHEAD_MS_MAX, AppendStatus
from tests.project_files import ROOT
from tests.stores.support import DAY_MS, ManualClock, OpenStore, Recorder, make, put, read_one, statuses

CHILD = "tests.stores.full_disk_child"
MOUNT_AND_RUN = 'mount -t tmpfs -o size=4m none "$1" && shift && exec "$@"'


def mounts_are_possible() -> bool:
    tried = subprocess.run(
        ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=1m none "$1"', "sh", "/mnt"], capture_output=True
    )
    return tried.returncode == 0


def run_child(directory: Path, way: str) -> dict[str, Any]:
    command = [sys.executable, "-m", CHILD, str(directory), way]
    if way == "ballast":
        # A mount in a name space of its own is gone with the process.
        command = ["unshare", "-m", "sh", "-c", MOUNT_AND_RUN, "sh", str(directory), *command]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
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
    if not mounts_are_possible():
        # Without the right to mount a small disk, the limit on a file's size is the nearest thing.
        check(run_child(tmp_path, "limit"))
        return
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
