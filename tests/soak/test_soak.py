"""Minutes of mixed load on one server: what it holds stays as it is, and what it acknowledged is there at the end.

What fills up by design is filled before the clock starts: sessions of a hundred events, profiles, the board of
explanations, SQLite's page cache. So whatever still grows after the warm-up is a leak.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from functools import partial
from pathlib import Path

import pytest

from recserv.app.server_process import ServerProcess
from tests.durability.state_file import read_state_file
from tests.patience import eventually
from tests.redis_server import free_port
from tests.soak.load import MixedLoad
from tests.soak.resources import HANDLES, MEMORY, Sample, leaks, sample, trends, watch

# Shorter for whoever works on it; not a setting of the server, hence without its prefix.
SOAK_S = float(os.environ.get("SOAK_SECONDS", "600"))
WARM_UP_SLICES, SLICES = 8, 12
REST_S = 3.0
RATE_PER_S = 150.0
MEANT = {"OK", "CANCELLED", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED"}


async def soak(server: ServerProcess, metrics: str) -> tuple[MixedLoad, list[Sample], list[Sample]]:
    """The load, and what the server held under it and in its rests, the warm-up left out."""
    load = MixedLoad(server.target)
    loaded: list[Sample] = []
    rests: list[Sample] = []
    await load.prefill()
    began_s = time.monotonic()
    for number in range(WARM_UP_SLICES + SLICES):
        samples: list[Sample] = []
        watching = asyncio.create_task(watch(server.pid, metrics, samples, began_s))
        await load.run(SOAK_S / (WARM_UP_SLICES + SLICES), RATE_PER_S)
        watching.cancel()
        # What else ended it is an error: samples would be missing.
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await load.rest(REST_S)
        rest = await asyncio.to_thread(sample, server.pid, metrics, time.monotonic() - began_s)
        print(f"\n{described(samples[-1])}\nat rest:\n{described(rest)}")
        if number >= WARM_UP_SLICES:
            loaded += samples
            rests.append(rest)
    await load.close()
    return load, loaded, rests


def described(entry: Sample) -> str:
    resident, in_use = entry.resident_bytes / 1e6, entry.malloc_bytes / 1e6
    memory = f"{resident:7.2f} MB resident {in_use:7.2f} MB malloc {entry.blocks:8d} blocks"
    return f"{entry.at_s:6.0f} s {memory} {entry.descriptors:4d} fds {entry.threads:3d} + {entry.grpc_threads} threads"


def descriptors_at_most(server: ServerProcess, metrics: str, most: int) -> bool:
    return sample(server.pid, metrics).descriptors <= most


@pytest.mark.soak
async def test_under_mixed_load_memory_descriptors_and_threads_stay_flat(tiny_model: Path, tmp_path: Path) -> None:
    state, metrics = tmp_path / "state.db", f"127.0.0.1:{free_port()}"
    with ServerProcess.started(tiny_model, state, ["--metrics-listen", metrics]) as server:
        idle = sample(server.pid, metrics)
        load, loaded, rests = await soak(server, metrics)
        print("after the warm-up, at rest and under load:")
        for name, of in {**trends(rests, MEMORY), **trends(loaded, HANDLES)}.items():
            print(f"{name}: {of}")
        print(f"acknowledged {len(load.acknowledged)} events; {dict(sorted(load.outcomes.items()))}")
        load.check()
        answered = {status for _, status in load.outcomes}
        # The connections of the load are gone; two files more are SQLite's reader.
        closed = partial(descriptors_at_most, server, metrics, idle.descriptors + 2)
        await asyncio.to_thread(eventually, closed, "the descriptors of the load are closed")
        log = server.log_tail()
        ended = server.stop()
    assert answered <= MEANT, load.outcomes
    assert leaks(rests, MEMORY) + leaks(loaded, HANDLES) == []
    assert ended == 0
    assert '"level":"error"' not in log
    stored = read_state_file(state)
    stored.check()
    assert load.acknowledged <= set(stored.times)
