"""One load-making process: calls from prepared bytes, answers counted but not parsed.

    Share -> run_share -> ShareResult

Closed loop: `concurrency` callers, each sends its next request when its last one was answered. Open loop: request i is
due at i / rate, whatever the answers do, and its latency counts from when it was due: a server that stalls is charged
for every request that should have been sent meanwhile (no coordinated omission). At most `concurrency` are out at once.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator

import grpc
import msgspec

from recserv.bench.histogram import Histogram

OK = "OK"
_runner: asyncio.Runner | None = None


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One process's part. `rate_per_s` None: closed loop. Ends after `requests_max` or `duration_s_max`."""

    target: str
    method: str
    bodies: tuple[bytes, ...]
    requests_max: int
    duration_s_max: float
    warmup: int
    concurrency: int
    connections: int
    rate_per_s: float | None
    timeout_s: float


class ShareResult:
    """Latencies of the OK answers; how many calls ended with which status; seconds from first to last."""

    def __init__(self) -> None:
        self.latencies = Histogram()
        self.statuses: Counter[str] = Counter()
        self.elapsed_s = 0.0


def run_share(share: Share) -> ShareResult:
    """Entry point in the child process. It keeps one event loop for good: gRPC's asyncio side wants no second one."""
    global _runner  # noqa: PLW0603
    if _runner is None:
        _runner = asyncio.Runner()
    return _runner.run(_run(share))


async def _run(share: Share) -> ShareResult:
    # Channels with different arguments do not share a connection.
    channels = [
        grpc.aio.insecure_channel(share.target, options=[("recserv.connection", number)])
        for number in range(share.connections)
    ]
    try:
        caller = _Caller(share, channels)
        async with asyncio.timeout(share.timeout_s):
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
        for _ in range(share.warmup):
            await caller.call(time.perf_counter())
        caller.result = ShareResult()
        started = time.perf_counter()
        if share.rate_per_s is None:
            await _closed_loop(caller, share, started)
        else:
            await _open_loop(caller, share, started, share.rate_per_s)
        caller.result.elapsed_s = time.perf_counter() - started
        return caller.result
    finally:
        for channel in channels:
            await channel.close(None)


class _Caller:
    """Sends the next body over the next connection and records how it went."""

    def __init__(self, share: Share, channels: list[grpc.aio.Channel]):
        self.result = ShareResult()
        self._timeout_s = share.timeout_s
        self._bodies: Iterator[bytes] = itertools.cycle(share.bodies)
        self._calls = itertools.cycle([channel.unary_unary(share.method, None, None) for channel in channels])

    async def call(self, counts_from_s: float) -> None:
        try:
            await next(self._calls)(next(self._bodies), timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            self.result.statuses[error.code().name] += 1
            return
        self.result.latencies.record(time.perf_counter() - counts_from_s)
        self.result.statuses[OK] += 1


async def _closed_loop(caller: _Caller, share: Share, started_s: float) -> None:
    tickets = iter(range(share.requests_max))
    end_s = started_s + share.duration_s_max

    async def one_caller() -> None:
        for _ in tickets:
            now = time.perf_counter()
            if now >= end_s:
                return
            await caller.call(now)

    await asyncio.gather(*(one_caller() for _ in range(min(share.concurrency, share.requests_max))))


async def _open_loop(caller: _Caller, share: Share, started_s: float, rate_per_s: float) -> None:
    free = asyncio.Semaphore(share.concurrency)

    async def one_call(due_s: float) -> None:
        try:
            await caller.call(due_s)
        finally:
            free.release()

    async with asyncio.TaskGroup() as calls:
        for number in range(share.requests_max):
            due_s = started_s + number / rate_per_s
            if due_s >= started_s + share.duration_s_max:
                return
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            await free.acquire()
            calls.create_task(one_call(due_s))
