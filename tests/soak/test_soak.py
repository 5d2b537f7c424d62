"""Minutes of mixed load on one server: what it holds stays as it is, and what it acknowledged is there at the end.

What fills up by design is filled before the clock starts: sessions of a hundred events, profiles, the board of
explanations, SQLite's page cache. So whatever still grows after the warm-up is a leak.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import pytest

from recserv.commands.server_process import ServerProcess
from tests.durability.state_file import read_state_file
from tests.redis_server import free_port
from tests.soak.load import MixedLoad
from tests.soak.resources import Sample, growth, sample, watch

# Shorter for whoever works on it; not a setting of the server, hence without its prefix.
SOAK_S = float(os.environ.get("SOAK_SECONDS", "600"))
WARM_UP_SLICES, SLICES = 4, 6
REST_S = 3.0
RATE_PER_S = 150.0
RESIDENT_GROWTH_MAX = 0.1
"""What the allocators keep moves it by several per cent."""
BLOCKS_GROWTH_MAX = 0.02
"""Four objects in ten calls."""
MALLOC_GROWTH_MAX = 0.05
"""Some 70 bytes a call; a caller that gives up held 13 KB once."""
DESCRIPTORS_MAX_APART = 8
GRPC_THREADS_MAX_APART = 2
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
        watching = asyncio.create_task(watch(server.pid, metrics, samples))
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


def descriptors_come_back_to(server: ServerProcess, metrics: str, idle: int) -> bool:
    give_up_s = time.monotonic() + 30.0
    while sample(server.pid, metrics).descriptors > idle and time.monotonic() < give_up_s:
        time.sleep(0.1)
    return sample(server.pid, metrics).descriptors <= idle


@pytest.mark.soak
async def test_under_mixed_load_memory_descriptors_and_threads_stay_flat(tiny_model: Path, tmp_path: Path) -> None:
    state, metrics = tmp_path / "state.db", f"127.0.0.1:{free_port()}"
    with ServerProcess.started(tiny_model, state, ["--metrics-listen", metrics]) as server:
        idle = sample(server.pid, metrics)
        load, loaded, rests = await soak(server, metrics)
        grown = growth(loaded, rests)
        print(f"after the warm-up: {grown}")
        print(f"acknowledged {len(load.acknowledged)} events; {dict(sorted(load.outcomes.items()))}")
        answered = {status for _, status in load.outcomes}
        # The connections of the load are gone; two files more are SQLite's reader.
        came_back = await asyncio.to_thread(descriptors_come_back_to, server, metrics, idle.descriptors + 2)
        log = server.log_tail()
        ended = server.stop()
    assert answered <= MEANT, load.outcomes
    resident_before, resident_after = grown.resident_bytes
    assert resident_after <= resident_before * (1 + RESIDENT_GROWTH_MAX)
    malloc_before, malloc_after = grown.malloc_bytes
    assert malloc_after <= malloc_before * (1 + MALLOC_GROWTH_MAX)
    blocks_before, blocks_after = grown.blocks
    assert blocks_after <= blocks_before * (1 + BLOCKS_GROWTH_MAX)
    assert grown.descriptors[1] <= grown.descriptors[0] + DESCRIPTORS_MAX_APART
    assert came_back
    assert grown.threads[1] <= grown.threads[0]
    assert grown.grpc_threads[1] <= grown.grpc_threads[0] + GRPC_THREADS_MAX_APART
    assert ended == 0
    assert '"level":"error"' not in log
    stored = read_state_file(state)
    stored.check()
    assert load.acknowledged <= set(stored.times)
