"""What a server's process holds, every two seconds: memory, descriptors, threads. Linux with glibc only.

Memory is what both allocators say is in use, looked at while nobody calls. Resident memory has what they keep of what
was given back, too: messages of megabytes come and go, each of gRPC's threads has an arena of its own, and what lies
free there moves by several MB for minutes. It must stay bounded, but it tells no leak.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

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
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as answer:
        in_use = {name: int(float(value)) for name, value in IN_USE.findall(answer.read().decode())}
    malloc_bytes, blocks = in_use["malloc_in_use_bytes"], in_use["python_blocks"]
    return Sample(at_s, resident_bytes, malloc_bytes, blocks, descriptors, threads.count(False), threads.count(True))


def _names_of_threads(process: Path) -> Iterator[str]:
    for task in (process / "task").iterdir():
        # It may end while it is looked at.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield (task / "comm").read_text()


async def watch(pid: int, metrics: str, samples: list[Sample], interval_s: float = 2.0) -> None:
    """Appends to `samples` until it is cancelled."""
    began_s = time.monotonic()
    while True:
        samples.append(await asyncio.to_thread(sample, pid, metrics, time.monotonic() - began_s))
        await asyncio.sleep(interval_s)


class Growth(NamedTuple):
    """(before, after): the least memory at rest, under load the most descriptors and the fewest threads: a thread
    that hangs is replaced, and gRPC has more of them while all are busy, so there may be one more for a while.

    At rest, because what calls and connections need comes on top: gRPC alone keeps up to 17 MB of buffers for a
    connection over which messages of 5 MB came.
    """

    resident_bytes: tuple[int, int]
    malloc_bytes: tuple[int, int]
    blocks: tuple[int, int]
    descriptors: tuple[int, int]
    threads: tuple[int, int]
    grpc_threads: tuple[int, int]


def growth(loaded: Sequence[Sample], rests: Sequence[Sample]) -> Growth:
    """From the first to the second half of each, the warm-up left out."""

    def halves(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
        return samples[: len(samples) // 2], samples[len(samples) // 2 :]

    def least(samples: Sequence[Sample], held: Callable[[Sample], int]) -> tuple[int, int]:
        before, after = halves(samples)
        return min(map(held, before)), min(map(held, after))

    def most(held: Callable[[Sample], int]) -> tuple[int, int]:
        before, after = halves(loaded)
        return max(map(held, before)), max(map(held, after))

    return Growth(
        least(rests, lambda entry: entry.resident_bytes),
        least(rests, lambda entry: entry.malloc_bytes),
        least(rests, lambda entry: entry.blocks),
        most(lambda entry: entry.descriptors),
        least(loaded, lambda entry: entry.threads),
        least(loaded, lambda entry: entry.grpc_threads),
    )
