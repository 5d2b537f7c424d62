"""Minutes of mixed load on one server: what it holds stays as it is, and what it acknowledged is there at the end.

What fills up by design is filled before the clock starts: sessions of a hundred events, profiles, the board of
explanations, SQLite's page cache. So whatever still grows after the warm-up is a leak.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from recserv.commands.server_process import ServerProcess
from tests.durability.state_file import read_state_file
from tests.soak.load import MixedLoad
from tests.soak.resources import Growth, Sample, growth, sample, watch

# Shorter for whoever works on it; not a setting of the server, hence without its prefix.
SOAK_S = float(os.environ.get("SOAK_SECONDS", "600"))
WARM_UP_SHARE = 0.3
RATE_PER_S = 150.0
RESIDENT_GROWTH_MAX = 0.03
DESCRIPTORS_MAX_APART = 8
MEANT = {"OK", "CANCELLED", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED"}


async def soak(server: ServerProcess) -> tuple[MixedLoad, list[Sample]]:
    load = MixedLoad(server.target)
    samples: list[Sample] = []
    await load.prefill()
    watching = asyncio.create_task(watch(server.pid, samples))
    await load.run(SOAK_S, RATE_PER_S)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await load.close()
    return load, samples


def report(samples: list[Sample], grown: Growth, load: MixedLoad) -> None:
    print()
    for entry in samples[:: max(len(samples) // 20, 1)]:
        resident_mb = entry.resident_bytes / 1e6
        print(f"{entry.at_s:6.0f} s {resident_mb:8.2f} MB {entry.descriptors:4d} fds {entry.threads:4d} threads")
    print(f"after the warm-up: {grown}")
    print(f"acknowledged {len(load.acknowledged)} events; {dict(sorted(load.outcomes.items()))}")


def descriptors_come_back_to(server: ServerProcess, idle: int) -> bool:
    give_up_s = time.monotonic() + 30.0
    while sample(server.pid).descriptors > idle and time.monotonic() < give_up_s:
        time.sleep(0.1)
    return sample(server.pid).descriptors <= idle


@pytest.mark.soak
async def test_under_mixed_load_memory_descriptors_and_threads_stay_flat(tiny_model: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    with ServerProcess.started(tiny_model, state) as server:
        idle = sample(server.pid)
        load, samples = await soak(server)
        grown = growth(samples, WARM_UP_SHARE * SOAK_S)
        report(samples, grown, load)
        answered = {status for _, status in load.outcomes}
        # The connections of the load are gone; two files more are SQLite's reader.
        came_back = await asyncio.to_thread(descriptors_come_back_to, server, idle.descriptors + 2)
        log = server.log_tail()
        ended = server.stop()
    assert answered <= MEANT, load.outcomes
    resident_before, resident_after = grown.resident_bytes
    assert resident_after <= resident_before * (1 + RESIDENT_GROWTH_MAX)
    assert grown.descriptors[1] <= grown.descriptors[0] + DESCRIPTORS_MAX_APART
    assert came_back
    assert grown.threads[1] <= grown.threads[0]
    assert ended == 0
    assert '"level":"error"' not in log
    stored = read_state_file(state)
    stored.check()
    assert load.acknowledged <= set(stored.times)
