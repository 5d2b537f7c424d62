"""What a process holds, once a second: resident memory, file descriptors, threads. Linux only."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Sample(NamedTuple):
    at_s: float
    resident_bytes: int
    descriptors: int
    threads: int


def sample(pid: int, at_s: float = 0.0) -> Sample:
    process = Path("/proc", str(pid))
    fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    resident_bytes = int(fields["VmRSS"].split()[0]) * 1024
    return Sample(at_s, resident_bytes, len(list((process / "fd").iterdir())), int(fields["Threads"]))


async def watch(pid: int, samples: list[Sample], interval_s: float = 1.0) -> None:
    """Appends to `samples` until it is cancelled."""
    began_s = time.monotonic()
    while True:
        samples.append(sample(pid, time.monotonic() - began_s))
        await asyncio.sleep(interval_s)


class Growth(NamedTuple):
    """The first and the last seventh of the samples after the warm-up: medians of memory, maxima of the rest."""

    resident_bytes: tuple[int, int]
    descriptors: tuple[int, int]
    threads: tuple[int, int]


def growth(samples: Sequence[Sample], warm_up_s: float) -> Growth:
    warm = [entry for entry in samples if entry.at_s >= warm_up_s]
    seventh = max(len(warm) // 7, 1)
    first, last = warm[:seventh], warm[-seventh:]
    return Growth(
        (_median_bytes(first), _median_bytes(last)),
        (max(entry.descriptors for entry in first), max(entry.descriptors for entry in last)),
        (max(entry.threads for entry in first), max(entry.threads for entry in last)),
    )


def _median_bytes(samples: Sequence[Sample]) -> int:
    return round(statistics.median(entry.resident_bytes for entry in samples))
