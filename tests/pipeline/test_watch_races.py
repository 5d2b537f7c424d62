"""No event is missed, in whatever order a watch, the probes and those who write take their steps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from recserv.pipeline.guarded_store import GuardedStore
from recserv.pipeline.watch import Watches
from recserv.pipeline.watch_runner import WatchRunner, WatchSettings
from recserv.stores.base import StateVersion
from recserv.types import (
    Recommendation,
    RecommendQuery,
    ShopperKey,
)
from tests.patience import eventually_async
from tests.pipeline.watch_support import QUERY, answer, event


class Gates:
    """Whoever waits here goes on when a schedule says so."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []

    async def wait(self, seconds: float = 0.0) -> None:
        gate = asyncio.get_running_loop().create_future()
        self.waiting.append(gate)
        await gate

    async def open(self, place: int) -> None:
        if self.waiting:
            gate = self.waiting.pop(place % len(self.waiting))
            if not gate.done():
                gate.set_result(None)
        for _ in range(8):
            await asyncio.sleep(0)


class World:
    """A state that grows by one with each event, and a watch whose every step waits at a gate."""

    def __init__(self, shared: bool) -> None:
        self.gates, self.state, self.unacknowledged = Gates(), 0, 0
        self.watches = Watches()
        store = GuardedStore(self) if shared else None  # type: ignore[arg-type]
        chosen = WatchSettings(probe_within_s=1e6)
        self.runner = WatchRunner(self.watches, store, chosen, clock=lambda: 0.0, sleep=self.gates.wait)
        self.shown = -1

    async def versions(self, tenant: str, keys: Sequence[ShopperKey]) -> list[StateVersion]:
        await self.gates.wait()
        version = self.state
        await self.gates.wait()
        return [(version,)] * len(keys)

    async def look(self, query: RecommendQuery, first: bool) -> Recommendation:
        await self.gates.wait()
        state = self.state
        await self.gates.wait()
        return answer(str(state))

    async def read(self) -> None:
        async for found, _ in self.runner.watch(QUERY, b"", self.look):
            self.shown = int(found.results[0].item_id)
            await self.gates.wait()

    def acknowledge(self) -> None:
        if self.unacknowledged:
            self.unacknowledged = 0
            self.watches.acknowledged("default", [event("s")])

    async def step(self, number: int, shared: bool) -> None:
        if number == 0:
            self.state += 1
            self.unacknowledged += 1
        elif number == 1:
            self.acknowledge()
        elif number == 2 and shared:
            # Another process wrote and acknowledged it.
            self.state += 1
        else:
            await self.gates.open(number)


@settings(max_examples=500, deadline=None)
@given(steps=st.lists(st.integers(0, 9), max_size=60), shared=st.booleans())
def test_whenever_an_event_is_acknowledged_the_last_answer_has_it(steps: list[int], shared: bool) -> None:
    async def run() -> None:
        world = World(shared)
        task = asyncio.create_task(world.read())
        await world.gates.open(0)
        for number in steps:
            await world.step(number, shared)
        world.acknowledge()
        # Oldest first, everybody gets on: some rounds of probes and looks.
        for _ in range(40):
            await world.gates.open(0)
        assert world.shown == world.state
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(world.watches) == 0

    asyncio.run(run())


async def test_a_watch_that_is_cancelled_at_any_gate_leaves_nothing() -> None:
    for opened in range(8):
        world = World(shared=True)
        task = asyncio.create_task(world.read())
        for _ in range(opened):
            await world.gates.open(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await eventually_async(lambda world=world: len(world.watches) == 0)  # type: ignore[misc]
        assert not world.runner.probing
