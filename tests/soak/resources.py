"""What a server's process holds, every two seconds: memory, descriptors, threads. Linux with glibc only.

Memory is what both allocators say is in use, looked at while nobody calls. Resident memory has what they keep of what
was given back, too: messages of megabytes come and go, each of gRPC's threads has an arena of its own, and what lies
free there moves by several MB for minutes. So no two samples are compared: what counts is where all of them tend to,
beside how far they lie apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.patience import HANG_GUARD_S

GRPC_THREADS = ("event_engine", "grpc_", "lifeguard")
"""How the names begin that gRPC's core gives its threads. How many it keeps is its own affair."""
IN_USE = re.compile(r"^recserv_(malloc_in_use_bytes|python_blocks) (\S+)$", re.MULTILINE)


class Sample(NamedTuple):
    at_s: float
    resident_bytes: int
    malloc_bytes: int
    blocks: int
    descriptors: int
    threads: int
    grpc_threads: int
    """Not counted in `threads`."""


def sample(pid: int, metrics: str, at_s: float = 0.0) -> Sample:
    """metrics: HOST:PORT where the process tells its metrics."""
    process = Path("/proc", str(pid))
    fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    resident_bytes = int(fields["VmRSS"].split()[0]) * 1024
    descriptors = len(list((process / "fd").iterdir()))
    threads = [name.startswith(GRPC_THREADS) for name in _names_of_threads(process)]
    # Asked last: the connection is a descriptor and a thread while it lasts.
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=HANG_GUARD_S) as answer:
        in_use = {name: int(float(value)) for name, value in IN_USE.findall(answer.read().decode())}
    malloc_bytes, blocks = in_use["malloc_in_use_bytes"], in_use["python_blocks"]
    return Sample(at_s, resident_bytes, malloc_bytes, blocks, descriptors, threads.count(False), threads.count(True))


def _names_of_threads(process: Path) -> Iterator[str]:
    for task in (process / "task").iterdir():
        # It may end while it is looked at.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield (task / "comm").read_text()


async def watch(pid: int, metrics: str, samples: list[Sample], began_s: float, interval_s: float = 2.0) -> None:
    """Appends to `samples` until it is cancelled. `began_s`: when the whole began, monotonic seconds."""
    while True:
        samples.append(await asyncio.to_thread(sample, pid, metrics, time.monotonic() - began_s))
        await asyncio.sleep(interval_s)


class Trend(NamedTuple):
    """A straight line through samples over time, which a few samples that lie far off do not tilt: its slope is the
    median of those between any two samples (Theil and Sen). Of a leak nothing comes back, so it stands out of the noise
    in time; what an allocator keeps, or a thread that a slow search started, goes up and stays there, or comes back.
    """

    level: float
    """In the middle of the samples."""
    growth: float
    """By the line, from the first sample to the last."""
    noise: float
    """How far the samples lie apart, measured from the line."""

    def __str__(self) -> str:
        return f"{self.growth:+.4g} on {self.level:.4g}, noise {self.noise:.3g}"


def trend(samples: Sequence[Sample], held: Callable[[Sample], float]) -> Trend:
    """Of at least two samples, taken at different times."""
    points = [(entry.at_s, held(entry)) for entry in samples]
    slope = median(
        (later - earlier) / (later_s - earlier_s)
        for (earlier_s, earlier), (later_s, later) in itertools.combinations(points, 2)
    )
    began_s = points[0][0]
    rests = [value - slope * (at_s - began_s) for at_s, value in points]
    return Trend(median(value for _, value in points), slope * (points[-1][0] - began_s), max(rests) - min(rests))


class Bound(NamedTuple):
    """How much of what is held may be more at the end: a part of what there is, or so many."""

    held: Callable[[Sample], float]
    part: float = 0.0
    count: float = 0.0


MEMORY = {
    # What the allocators keep moves it by several per cent.
    "resident bytes": Bound(lambda entry: entry.resident_bytes, part=0.1),
    # A caller that gives up held 13 KB once.
    "bytes of malloc": Bound(lambda entry: entry.malloc_bytes, part=0.05),
    "Python blocks": Bound(lambda entry: entry.blocks, part=0.02),
}
"""At rest, because what calls and connections need comes on top: gRPC alone keeps up to 17 MB of buffers for a
connection over which messages of 5 MB came.
"""
HANDLES = {
    "descriptors": Bound(lambda entry: entry.descriptors, count=8),
    "threads": Bound(lambda entry: entry.threads, count=3),
    "gRPC's threads": Bound(lambda entry: entry.grpc_threads, count=3),
}
"""Under load: a thread that hangs is replaced, and gRPC has more of them while all are busy."""


def trends(samples: Sequence[Sample], bounds: dict[str, Bound]) -> dict[str, Trend]:
    return {name: trend(samples, bound.held) for name, bound in bounds.items()}


def leaks(samples: Sequence[Sample], bounds: dict[str, Bound]) -> list[str]:
    """What grew by more than it may and by more than its noise explains."""
    found = []
    for name, of in trends(samples, bounds).items():
        allowed = max(bounds[name].part * of.level, bounds[name].count)
        if of.growth > max(allowed, of.noise):
            found.append(f"{name}: {of}, allowed {allowed:.4g}")
    return found
