"""Run as a program: fills up the disk under an embedded store, makes room, and says what it saw as one line of JSON.

    python full_disk_child.py DIRECTORY limit|ballast

`limit`: no file of this process may outgrow a size. `ballast`: a file beside the state occupies most of a small disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
from pathlib import Path

from recserv.errors import StoreUnavailable
from recserv.stores.base import AppendEvent, AppendStatus
from recserv.stores.embedded import EmbeddedStore
from tests.stores.support import Recorder, make, read_one

FILE_BYTES_MAX = 500_000
DISK_BYTES_LEFT = 1_000_000
EVENTS_MAX = 20_000


def take_space(ballast: Path, way: str) -> None:
    if way == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, resource.RLIM_INFINITY))
        return
    free = os.statvfs(ballast.parent).f_bavail * os.statvfs(ballast.parent).f_frsize
    ballast.write_bytes(b"x" * (free - DISK_BYTES_LEFT))


def make_room(ballast: Path, way: str) -> None:
    if way == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        ballast.unlink()


async def run(directory: Path, way: str) -> dict[str, object]:
    ballast = directory / "ballast"
    take_space(ballast, way)
    hooks = Recorder()
    store = EmbeddedStore(directory / "state.db", hooks=hooks)
    await store.open()
    accepted = failures = 0
    error = ""
    # One failure may only be the log ahead of its checkpoint; three in a row are a full disk.
    while accepted < EVENTS_MAX and failures < 3:
        (result,) = await store.append("default", [_event(accepted)])
        if result.status == AppendStatus.ACCEPTED:
            accepted, failures = accepted + 1, 0
        else:
            assert result.status == AppendStatus.UNAVAILABLE
            failures, error = failures + 1, result.error
    still_full = (await store.append("default", [_event(accepted)]))[0].status
    duplicate = (await store.append("default", [_event(0)]))[0].status
    readable = (await read_one(store, "s0", "u0")).profile.event_count
    opens_elsewhere = "not tried"
    if way == "ballast":
        opens_elsewhere = await _open_another(directory)
    make_room(ballast, way)
    again = (await store.append("default", [_event(accepted)]))[0].status
    await store.close()

    store = EmbeddedStore(directory / "state.db")
    await store.open()
    logged = [row.append.event.event_id for row in await store.log_after(0, EVENTS_MAX + 10)]
    counters = await store.counters()
    await store.close()
    return {
        "accepted": accepted,
        "error": error,
        "causes": sorted({cause for _, cause in hooks.unavailable}),
        "still_full": still_full.name,
        "duplicate": duplicate.name,
        "readable": readable,
        "opens_elsewhere": opens_elsewhere,
        "again": again.name,
        "complete": logged == [f"e{n}" for n in range(accepted + 1)],
        "counters_agree": all(row.accepted - row.swept == row.logged for row in counters),
    }


def _event(number: int) -> AppendEvent:
    padding = {"padding": "x" * 500}
    return make(f"e{number}", f"i{number}", session_id=f"s{number % 7}", user_id=f"u{number % 7}", properties=padding)


async def _open_another(directory: Path) -> str:
    # What the failed writes gave back is taken first.
    with contextlib.suppress(OSError), open(directory / "rest", "wb", buffering=0) as rest:
        while rest.write(b"x" * 4096):
            pass
    other = EmbeddedStore(directory / "other.db")
    try:
        await other.open()
    except StoreUnavailable:
        return "unavailable"
    await other.close()
    return "opened"


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(Path(sys.argv[1]), sys.argv[2]))))
