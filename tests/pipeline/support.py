"""Stores and observers that do what a test tells them."""

from __future__ import annotations

import asyncio

from recserv.resilience.deadline import Deadline
from recserv.types import Event, EventType, SessionEvent, SessionState, ShopperState
from tests.patience import HANG_GUARD_S

NOW_MS = 1_800_000_000_000
TOKEN_KEY = bytes(range(32))


def no_hurry() -> Deadline:
    """For an answer that shall not be less than it can be."""
    return Deadline(HANG_GUARD_S)


def no_time_passes() -> float:
    """A monotonic clock: nothing that it measures is ever slow."""
    return 0.0


class FakeStore:
    """Answers what it is told to, as often as it is asked."""

    token_key = TOKEN_KEY

    def __init__(self, *states: ShopperState | Exception, hang: bool = False):
        self.states = list(states)
        self.hang = hang
        self.reads = 0

    async def read(self, tenant, keys):
        self.reads += 1
        if self.hang:
            await asyncio.Event().wait()
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return [state for _ in keys]


class Recorder:
    def __init__(self):
        self.searches, self.stages, self.reasons, self.sources = 0, [], [], {}

    def stage(self, name, seconds):
        self.stages.append(name)

    def degraded(self, reason):
        self.reasons.append(reason)

    def source(self, source, count):
        self.sources[source] = self.sources.get(source, 0) + count

    def index_search(self):
        self.searches += 1


def session(*events: tuple[EventType, str]) -> SessionState:
    made = tuple(
        SessionEvent(kind, item, NOW_MS - 1000 * (len(events) - n), NOW_MS, n + 1)
        for n, (kind, item) in enumerate(events)
    )
    return SessionState(made, len(made))


def viewed(*items: str) -> tuple[Event, ...]:
    return tuple(Event(event_type=EventType.VIEW, item_id=item) for item in items)


def ids(answer):
    return [result.item_id for result in answer.results]
