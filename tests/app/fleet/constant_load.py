"""Constant load by `recserv.client`, every answer looked at, every failure kept."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from recserv.client import AsyncRecommendationClient, ClientOptions
from recserv.types import Event, EventType, Recommendation, RecommendQuery, ShopperKey

RATE_PER_S, STREAM_RATE_PER_S = 60.0, 10.0
CLIENTS = 6


class ConstantLoad:
    """Each call starts when it is due, whether the ones before it are answered or not."""

    def __init__(self, check: Callable[[Recommendation], None], seed: int):
        self.failed: list[str] = []
        self.calls = self.streamed = 0
        self.models: Counter[str] = Counter()
        self.latencies_ms: list[float] = []
        self._over = asyncio.Event()
        self._check, self._random = check, random.Random(seed)
        self._ids = (f"{seed}-{number}" for number in itertools.count())

    async def run(self, target: str) -> None:
        """Until cancelled; then every call that was begun is ended first."""
        options = ClientOptions(timeout_s=5.0)
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(AsyncRecommendationClient(target, options=options))
                for _ in range(CLIENTS)
            ]
            calls = {loop.create_task(self._stream(clients[0]))}
            try:
                due_s = loop.time()
                while True:
                    task = loop.create_task(self._call(clients[self.calls % CLIENTS]))
                    self.calls += 1
                    calls.add(task)
                    task.add_done_callback(calls.discard)
                    due_s += 1 / RATE_PER_S
                    await asyncio.sleep(due_s - loop.time())
            finally:
                self._over.set()
                await asyncio.gather(*calls)

    async def _call(self, client: AsyncRecommendationClient) -> None:
        session = f"s-{self._random.randrange(40)}"
        kind = self._random.choice(["recommend", "recommend", "ingest", "context"])
        began = time.monotonic()
        try:
            if kind == "recommend":
                answer = await client.recommend(RecommendQuery(session_id=session))
                self.models[answer.model_version] += 1
                self._check(answer)
            elif kind == "ingest":
                await client.ingest(self._event())
            else:
                await client.context(ShopperKey(session))
        except Exception as error:
            self.failed.append(f"{kind} after {self.calls} calls, {time.monotonic() - began:.2f} s: {error!r}")
        self.latencies_ms.append((time.monotonic() - began) * 1000)

    async def _stream(self, client: AsyncRecommendationClient) -> None:
        """Events one after the other, each acknowledged before the next, by one stream however often it breaks."""
        try:
            async with client.event_stream() as stream:
                while not self._over.is_set():
                    await (await stream.send(self._event()))
                    self.streamed += 1
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1 / STREAM_RATE_PER_S):
                            await self._over.wait()
        except Exception as error:
            self.failed.append(f"stream after {self.streamed} events: {error!r}")

    def _event(self) -> Event:
        session, item = f"s-{self._random.randrange(40)}", f"item-{self._random.randrange(100)}"
        return Event(event_id=next(self._ids), event_type=EventType.VIEW, session_id=session, item_id=item)

    def report(self, what: str) -> None:
        ordered = sorted(self.latencies_ms)
        p50, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
        print(
            f"\n{what}: {self.calls} calls and {self.streamed} streamed events, {len(self.failed)} failed; "
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {ordered[-1]:.0f} ms; models {dict(self.models)}"
        )


@asynccontextmanager
async def under_load(target: str, check: Callable[[Recommendation], None], seed: int) -> AsyncIterator[ConstantLoad]:
    load = ConstantLoad(check, seed)
    task = asyncio.create_task(load.run(target))
    try:
        yield load
    finally:
        task.cancel()
        [ended] = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(ended, asyncio.CancelledError):
            raise ended
