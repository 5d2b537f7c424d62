"""A thousand watches and a hundred events a second: how soon each sees its change, and what it costs the others."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest

from recserv import v1 as pb
from recserv.app.server_process import ServerProcess
from tests.redis_server import running_redis

pytestmark = pytest.mark.benchmark

WITHIN_S = 1.0
WATCH_BYTES_MAX = 100_000
"""What a watch takes of the server's memory, gRPC's part included."""
ITEMS = 190
RECOMMENDS_PER_S = 20


class Scale(NamedTuple):
    watchers: int = 1_000
    events_per_s: int = 100
    seconds: float = 20.0
    channels: int = 20


class Servers(NamedTuple):
    """Watches and recommendations go to one of them, events to the other, if there are two."""

    watched: ServerProcess
    written: ServerProcess


@pytest.fixture(params=["embedded", "redis"])
def servers(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Iterator[Servers]:
    options = ["--max-watches=2000"]
    with ExitStack() as stack:
        if request.param == "embedded":
            server = stack.enter_context(ServerProcess.started(tiny_model, tmp_path / "state.db", options))
            yield Servers(server, server)
            return
        redis = stack.enter_context(running_redis(tmp_path))
        yield Servers(*[stack.enter_context(ServerProcess.started(tiny_model, redis.url, options)) for _ in range(2)])


class Watcher:
    """The answers of one watch: when the last one came."""

    def __init__(self, stub: Any, number: int, **fields: Any):
        request = pb.RecommendRequest(session_id=f"with-{number}", **fields)
        self.call = stub.WatchRecommendations(pb.WatchRecommendationsRequest(request=request))
        self.arrived: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.answers = 0

    async def follow(self) -> None:
        async for _ in self.call:
            self.answers += 1
            if not self.arrived.done():
                self.arrived.set_result(time.perf_counter())


def resident_bytes(server: ServerProcess) -> int:
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


@asynccontextmanager
async def stubs(target: str, channels: int) -> AsyncIterator[list[Any]]:
    # Else all channels of a process share one connection, whose calls are limited.
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(grpc.aio.insecure_channel(target, options)) for _ in range(channels)]
        yield [pb.RecommendationServiceStub(channel) for channel in made]


class Run:
    """Events at their pace, one after the other for each of the sessions; and recommendations at theirs."""

    def __init__(self, events: Any, recommends: Any, scale: Scale, name: str):
        self.events, self.recommends, self.scale, self.name = events, recommends, scale, name
        self.recommends_s: list[float] = []
        self.acknowledged_s: list[float] = []
        self.changes_s: list[float] = []
        """From the acknowledgement; an answer that was there before it counts as 0."""
        self.since_sent_s: list[float] = []
        self.missed = 0
        self._waiting: set[asyncio.Task[None]] = set()

    async def go(self, watchers: list[Watcher], slow: int) -> None:
        loop, began_s, sent = asyncio.get_running_loop(), time.perf_counter(), 0
        asking = loop.create_task(self._recommend())
        while (now_s := time.perf_counter()) - began_s < self.scale.seconds:
            while sent < (now_s - began_s) * self.scale.events_per_s:
                watcher = watchers[sent % len(watchers)] if watchers else None
                self._begin(self._event(sent, f"{self.name}-{sent % self.scale.watchers}", watcher))
                if sent % 10 == 0:
                    self._begin(self._event(sent, f"{self.name}-{slow}", None))
                sent += 1
            await asyncio.sleep(0.002)
        asking.cancel()
        await asyncio.gather(asking, *self._waiting, return_exceptions=True)

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _event(self, number: int, session: str, watcher: Watcher | None) -> None:
        item = f"item-{number // self.scale.watchers * 7 % ITEMS + number % 5}"
        event = pb.Event(
            event_id=f"{self.name}-{number}", event_type=pb.EVENT_TYPE_VIEW, session_id=session, item_id=item
        )
        if watcher is not None:
            watcher.arrived = asyncio.get_running_loop().create_future()
        sent_s = time.perf_counter()
        await self.events.IngestEvent(pb.IngestEventRequest(event=event), timeout=10.0)
        acknowledged_s = time.perf_counter()
        self.acknowledged_s.append(acknowledged_s - sent_s)
        if watcher is None:
            return
        try:
            async with asyncio.timeout(5 * WITHIN_S):
                arrived_s = await watcher.arrived
            self.changes_s.append(max(0.0, arrived_s - acknowledged_s))
            self.since_sent_s.append(arrived_s - sent_s)
        except TimeoutError:
            self.missed += 1

    async def _recommend(self) -> None:
        while True:
            began_s = time.perf_counter()
            await self.recommends.Recommend(pb.RecommendRequest(session_id="somebody"), timeout=10.0)
            self.recommends_s.append(time.perf_counter() - began_s)
            await asyncio.sleep(1 / RECOMMENDS_PER_S)


def p50_p99(values: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]


async def measure(servers: Servers, scale: Scale) -> tuple[Run, Run, int]:
    """Without and with watchers; and the bytes that a watcher takes at the end."""
    slow = scale.watchers
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(stubs(servers.watched.target, scale.channels + 2))
        [events] = await stack.enter_async_context(stubs(servers.written.target, 1))
        *watching, recommends, slow_one = made
        without = Run(events, recommends, scale, "without")
        await without.go([], slow)
        before = resident_bytes(servers.watched)
        watchers = [Watcher(watching[n % len(watching)], n) for n in range(scale.watchers)]
        followed = [asyncio.create_task(watcher.follow()) for watcher in watchers]
        # It reads nothing, and its answers are large.
        stalled = Watcher(slow_one, slow, return_items=True, page_size=100)
        await asyncio.gather(*[watcher.arrived for watcher in watchers])
        run = Run(events, recommends, scale, "with")
        await run.go(watchers, slow)
        each = (resident_bytes(servers.watched) - before) // scale.watchers
        stalled.call.cancel()
        for task in followed:
            task.cancel()
        await asyncio.gather(*followed, return_exceptions=True)
    return without, run, each


def report(without: Run, run: Run, each: int) -> str:
    def told(values_s: list[float]) -> str:
        p50_s, p99_s = p50_p99(values_s)
        return f"p50 {p50_s * 1000:.1f}, p99 {p99_s * 1000:.1f}, max {max(values_s) * 1000:.1f} ms"

    scale = run.scale
    return (
        f"{scale.watchers} watchers of {each / 1000:.0f} kB, {scale.events_per_s} events/s for {scale.seconds:g} s:\n"
        f"  change after its acknowledgement  {told(run.changes_s)} ({len(run.changes_s)} seen, {run.missed} not)\n"
        f"  change after the event was sent   {told(run.since_sent_s)}\n"
        f"  acknowledgement                   {told(run.acknowledged_s)}\n"
        f"  acknowledgement without watchers  {told(without.acknowledged_s)}\n"
        f"  Recommend                         {told(run.recommends_s)}\n"
        f"  Recommend without watchers        {told(without.recommends_s)}"
    )


async def test_each_watcher_sees_its_change_within_a_second(servers: Servers) -> None:
    without, run, each = await measure(servers, Scale())
    print("\n" + report(without, run, each))
    assert run.missed == 0
    assert max(run.changes_s) < WITHIN_S
    assert each < WATCH_BYTES_MAX
