"""What the tests of the stores share: a clock to turn by hand and short ways to write events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from recserv.stores.base import AppendEvent, AppendResult, AppendStatus, StateStore
from recserv.stores.hooks import StoreHooks
from recserv.types import Clock, Event, EventType, ShopperKey, ShopperState, body_hash

START_MS = 1_750_000_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

EARLIER_EVENT = Event(
    event_id="e-1",
    event_type=EventType.ADD_TO_CART,
    user_id="u",
    session_id="s",
    item_id="i",
    quantity=2,
    value=9.5,
    currency_code="EUR",
    event_time_ms=1_750_000_000_000,
    properties={"b": "2", "a": "1"},
)
EARLIER_HASH = bytes.fromhex("f7fb9198b09efe99b03c7cd1875938e6")
"""Of that event, as the first release stored it. It lies in files and in Redis: never change it."""


class ManualClock:
    def __init__(self, now_ms: int = START_MS):
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, span_ms: int) -> None:
        self.now_ms += span_ms


OpenStore = Callable[..., Any]


class Recorder(StoreHooks):
    def __init__(self) -> None:
        self.commits: list[int] = []
        self.unavailable: list[tuple[int, str]] = []
        self.evicted = 0
        self.swept: list[tuple[int, int, int]] = []
        self.read_failures: list[str] = []
        self.undecodable: list[tuple[str, int]] = []

    def on_commit(self, events: int, seconds: float) -> None:
        assert seconds >= 0.0
        self.commits.append(events)

    def on_unavailable(self, events: int, cause: str) -> None:
        self.unavailable.append((events, cause))

    def on_sessions_evicted(self, sessions: int) -> None:
        self.evicted += sessions

    def on_swept(self, ids: int, log_rows: int, profiles: int) -> None:
        self.swept.append((ids, log_rows, profiles))

    def on_read_failed(self, cause: str) -> None:
        self.read_failures.append(cause)

    def on_undecodable(self, kind: str, records: int) -> None:
        self.undecodable.append((kind, records))


class Backend(Protocol):
    """One place of storage; every store it gives works on what the one before it left there."""

    async def start(self, clock: Clock) -> StateStore:
        """An opened store that remembers event ids for DAY_MS."""


def append_of(event: Event, arrival_ms: int) -> AppendEvent:
    time_ms = arrival_ms if event.event_time_ms is None else event.event_time_ms
    return AppendEvent(event, body_hash(event), arrival_ms, time_ms)


def make(
    event_id: str,
    item_id: str = "item",
    *,
    at: int = START_MS,
    kind: EventType = EventType.VIEW,
    session_id: str = "session",
    user_id: str = "",
    **fields: Any,
) -> AppendEvent:
    """An event that arrives `at`."""
    event = Event(event_id=event_id, event_type=kind, session_id=session_id, user_id=user_id, item_id=item_id, **fields)
    return append_of(event, at)


async def put(store: StateStore, *appends: AppendEvent, tenant: str = "default") -> list[AppendResult]:
    """Appends events that must all be accepted."""
    results = await store.append(tenant, appends)
    assert [result.status for result in results] == [AppendStatus.ACCEPTED] * len(appends), results
    return results


async def read_one(
    store: StateStore, session_id: str = "session", user_id: str = "", *, tenant: str = "default"
) -> ShopperState:
    return (await store.read(tenant, [ShopperKey(session_id, user_id)]))[0]


def statuses(results: Sequence[AppendResult]) -> list[AppendStatus]:
    return [result.status for result in results]


def items_of(state: ShopperState) -> list[str]:
    return [event.item_id for event in state.session.events]
