"""One load-generating process: it sends prepared bytes and counts the answers.

    Share -> run_share -> ShareResult

Closed loop: `concurrency` callers, each sends its next request when its last one was answered. Open loop: when a
request is due is decided beforehand (evenly, or as a Poisson process), whatever the answers do, and its latency counts
from when it was due: a server that stalls is charged for every request that should have been sent meanwhile (no
coordinated omission). At most `concurrency` are out at once; one that is due beyond that waits, and its latency runs.

An answer is parsed after its latency was taken: degraded answers count by their reasons.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

import grpc
import msgspec

from recserv import v1 as pb
from recserv.bench.histogram import Histogram

RECOMMEND = "/recserv.v1.RecommendationService/Recommend"
OK = "OK"
UNLABELLED = "UNLABELLED"
"""For an answer that is marked as degraded and gives no reason."""
_runner: asyncio.Runner | None = None


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One process's part. `rate_per_s` None: closed loop. Ends after `requests_max` or `duration_s_max`. `phase` (0 to
    1) shifts evenly spaced arrivals against those of the other processes. `samples`: the result says
    each call by itself.
    """

    target: str
    bodies: tuple[bytes, ...]
    requests_max: int
    duration_s_max: float
    warmup: int
    concurrency: int
    connections: int
    rate_per_s: float | None
    timeout_s: float
    poisson: bool = False
    seed: int = 0
    phase: float = 0.0
    samples: bool = False
    metadata: tuple[tuple[str, str], ...] = ()


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One call. `due_s` on the monotonic clock, which all processes of a machine share; `reasons`: why degraded."""

    due_s: float
    latency_s: float
    status: str
    reasons: tuple[str, ...] = ()


class ShareResult:
    """Latencies by status; how many answers were degraded, and by which reasons; seconds from first to last."""

    def __init__(self) -> None:
        self.latencies: dict[str, Histogram] = {}
        self.degraded = 0
        self.reasons: Counter[str] = Counter()
        self.elapsed_s = 0.0
        self.samples: list[Sample] = []

    @property
    def statuses(self) -> Counter[str]:
        return Counter({status: histogram.count for status, histogram in self.latencies.items()})

    def record(self, sample: Sample, *, keep: bool) -> None:
        if sample.status not in self.latencies:
            self.latencies[sample.status] = Histogram()
        self.latencies[sample.status].record(sample.latency_s)
        self.degraded += bool(sample.reasons)
        self.reasons.update(sample.reasons)
        if keep:
            self.samples.append(sample)


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
            await caller.call(time.monotonic())
        caller.result = ShareResult()
        started = time.monotonic()
        if share.rate_per_s is None:
            await _closed_loop(caller, share, started)
        else:
            await _open_loop(caller, share, started, share.rate_per_s)
        caller.result.elapsed_s = time.monotonic() - started
        return caller.result
    finally:
        for channel in channels:
            await channel.close(None)


class _Caller:
    """Sends the next body over the next connection and records how it went."""

    def __init__(self, share: Share, channels: list[grpc.aio.Channel], clock: Callable[[], float] = time.monotonic):
        self.result = ShareResult()
        self._timeout_s, self._metadata = share.timeout_s, share.metadata
        self._keep, self._clock = share.samples, clock
        self._bodies: Iterator[bytes] = itertools.cycle(share.bodies)
        self._calls = itertools.cycle([channel.unary_unary(RECOMMEND, None, None) for channel in channels])

    async def call(self, counts_from_s: float) -> None:
        status, answer = OK, b""
        try:
            answer = await next(self._calls)(next(self._bodies), timeout=self._timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            status = error.code().name
        latency_s = self._clock() - counts_from_s
        self.result.record(Sample(counts_from_s, latency_s, status, _degraded_reasons(answer)), keep=self._keep)


def _degraded_reasons(answer: bytes) -> tuple[str, ...]:
    if not answer:
        return ()
    response = pb.RecommendResponse.FromString(answer)
    if not response.degraded:
        return ()
    names = pb.DegradedReason.DESCRIPTOR.values_by_number
    known = tuple(
        names[reason].name.removeprefix("DEGRADED_REASON_") if reason in names else str(reason)
        for reason in response.degraded_reasons
    )
    return known or (UNLABELLED,)


def arrivals(share: Share, rate_per_s: float) -> Iterator[float]:
    """Seconds after the start at which requests are due, without end."""
    if not share.poisson:
        return ((number + share.phase) / rate_per_s for number in itertools.count())
    drawn = random.Random(share.seed)
    return itertools.accumulate(drawn.expovariate(rate_per_s) for _ in itertools.count())


async def _closed_loop(caller: _Caller, share: Share, started_s: float) -> None:
    tickets = iter(range(share.requests_max))
    end_s = started_s + share.duration_s_max

    async def one_caller() -> None:
        for _ in tickets:
            now = time.monotonic()
            if now >= end_s:
                return
            await caller.call(now)

    await asyncio.gather(*(one_caller() for _ in range(min(share.concurrency, share.requests_max))))


async def _open_loop(
    caller: _Caller, share: Share, started_s: float, rate_per_s: float, clock: Callable[[], float] = time.monotonic
) -> None:
    free = asyncio.Semaphore(share.concurrency)

    async def one_call(due_s: float) -> None:
        try:
            await caller.call(due_s)
        finally:
            free.release()

    async with asyncio.TaskGroup() as calls:
        for after_s in itertools.islice(arrivals(share, rate_per_s), share.requests_max):
            if after_s >= share.duration_s_max:
                return
            due_s = started_s + after_s
            await asyncio.sleep(max(0.0, due_s - clock()))
            await free.acquire()
            calls.create_task(one_call(due_s))
