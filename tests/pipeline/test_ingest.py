from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from recserv.errors import EventConflict, EventTooOld, InvalidInput, StoreUnavailable
from recserv.pipeline.ingest import EventIngestor, IngestHooks, IngestOutcome
from recserv.pipeline.tokens import decode_token
from recserv.pipeline.watch import Watches
from recserv.stores.base import EVENT_AHEAD_MS_MAX, AppendEvent, AppendResult, AppendStatus
from recserv.types import Event, EventType, IngestStatus, ShopperKey, ShopperState, body_hash
from tests.patience import eventually_async
from tests.pipeline.support import TOKEN_KEY
from tests.stores.support import DAY_MS, START_MS, ManualClock

ACCEPTED, DUPLICATE, REJECTED = IngestStatus.ACCEPTED, IngestStatus.DUPLICATE, IngestStatus.REJECTED


class ScriptedStore:
    """Answers each append with the next of `answers`, else accepts; `gate` holds the answer back."""

    token_key = TOKEN_KEY

    def __init__(self, *answers: list[AppendResult] | Exception):
        self.answers = list(answers)
        self.calls: list[tuple[str, list[AppendEvent]]] = []
        self.finished = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def append(self, tenant: str, events: Sequence[AppendEvent]) -> list[AppendResult]:
        self.calls.append((tenant, list(events)))
        await self.gate.wait()
        self.finished += 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer or [AppendResult(AppendStatus.ACCEPTED, 10 + n) for n in range(len(events))]

    async def read(self, tenant: str, keys: Sequence[ShopperKey]) -> list[ShopperState]:
        raise AssertionError("ingestion does not read")


class RecordingHooks(IngestHooks):
    def __init__(self) -> None:
        self.outcomes: list[tuple[EventType, str, int]] = []
        self.unknown: list[int] = []

    def on_events(self, event_type: EventType, outcome: str, count: int) -> None:
        self.outcomes.append((event_type, outcome, count))

    def on_unknown_items(self, count: int) -> None:
        self.unknown.append(count)


def view(event_id: str, **fields: object) -> Event:
    values = {"event_type": EventType.VIEW, "session_id": "s", "item_id": "a", **fields}
    return Event(event_id=event_id, **values)  # type: ignore[arg-type]


def ingestor(store: ScriptedStore, hooks: IngestHooks | None = None) -> EventIngestor:
    known = {"a", "b"}.__contains__
    return EventIngestor(store, ManualClock(), retention_ms=DAY_MS, known_item=known, hooks=hooks)


def summary(outcomes: Sequence[IngestOutcome]) -> list[object]:
    return [type(outcome.error) if outcome.error else outcome.status for outcome in outcomes]


async def test_the_store_sees_arrival_time_and_a_hash_of_what_the_caller_sent() -> None:
    store = ScriptedStore()
    unset, dated = view("e1"), view("e2", event_time_ms=START_MS - 5)
    await ingestor(store).ingest("shop", [unset, dated])
    [(tenant, appends)] = store.calls
    assert tenant == "shop"
    assert [(a.arrival_ms, a.event_time_ms) for a in appends] == [(START_MS, START_MS), (START_MS, START_MS - 5)]
    assert [(a.event, a.body_hash) for a in appends] == [(unset, body_hash(unset)), (dated, body_hash(dated))]


async def test_good_events_go_to_the_store_in_one_call_beside_bad_ones() -> None:
    store = ScriptedStore()
    outcomes = await ingestor(store).ingest(
        "default",
        [
            view("e1"),
            view("e2", event_time_ms=START_MS + EVENT_AHEAD_MS_MAX + 1),
            view("e3", event_time_ms=START_MS - DAY_MS - 1),
            view("e4"),
        ],
    )
    assert summary(outcomes) == [ACCEPTED, InvalidInput, EventTooOld, ACCEPTED]
    assert [[append.event.event_id for append in appends] for _, appends in store.calls] == [["e1", "e4"]]
    assert [decode_token(o.consistency_token).sequence for o in outcomes if o.status == ACCEPTED] == [10, 11]
    refused = outcomes[1].error
    assert isinstance(refused, InvalidInput)
    assert [(v.field, v.reason) for v in refused.violations] == [("event_time", "OUT_OF_RANGE")]


async def test_events_exactly_at_the_limits_of_event_time_are_accepted() -> None:
    edges = [view("e1", event_time_ms=START_MS + EVENT_AHEAD_MS_MAX), view("e2", event_time_ms=START_MS - DAY_MS)]
    assert summary(await ingestor(ScriptedStore()).ingest("default", edges)) == [ACCEPTED, ACCEPTED]


async def test_nothing_good_means_no_call_of_the_store() -> None:
    store = ScriptedStore()
    assert summary(await ingestor(store).ingest("default", [view("e", event_time_ms=0)])) == [EventTooOld]
    assert await ingestor(store).ingest("default", []) == []
    assert store.calls == []


async def test_every_answer_of_the_store_has_its_outcome() -> None:
    answers = [
        AppendResult(AppendStatus.ACCEPTED, 4),
        AppendResult(AppendStatus.DUPLICATE, 2),
        AppendResult(AppendStatus.CONFLICT, 0, "used before"),
        AppendResult(AppendStatus.UNAVAILABLE, 0, "disk full"),
    ]
    hooks = RecordingHooks()
    outcomes = await ingestor(ScriptedStore(answers), hooks).ingest("default", [view(f"e{n}") for n in range(4)])
    assert summary(outcomes) == [ACCEPTED, DUPLICATE, EventConflict, StoreUnavailable]
    token = decode_token(outcomes[1].consistency_token)
    assert token.made_with(TOKEN_KEY)
    assert token.reflected_in(ShopperState(sequence=2), "default", ShopperKey("s"))
    assert not token.reflected_in(ShopperState(sequence=1), "default", ShopperKey("s"))
    assert [o.consistency_token for o in outcomes[2:]] == ["", ""]
    assert "disk full" in str(outcomes[3].error)
    names = ["accepted", "duplicate", "event_id_reused", "store_unavailable"]
    assert hooks.outcomes == [(EventType.VIEW, name, 1) for name in names]


async def test_a_store_that_raises_makes_the_events_unavailable() -> None:
    store = ScriptedStore(RuntimeError("broken"))
    outcomes = await ingestor(store).ingest("default", [view("e1"), view("old", event_time_ms=0), view("e2")])
    assert summary(outcomes) == [StoreUnavailable, EventTooOld, StoreUnavailable]


async def test_an_item_that_the_model_does_not_know_is_accepted_and_counted() -> None:
    hooks = RecordingHooks()
    search = view("e3", event_type=EventType.SEARCH, item_id="", search_query="q")
    events = [view("e1", item_id="new"), view("e2", item_id="b"), search, view("e4", item_id="newer")]
    old = view("e5", item_id="new", event_time_ms=0)
    assert summary(await ingestor(ScriptedStore(), hooks).ingest("default", [*events, old])) == [
        *[ACCEPTED] * 4,
        EventTooOld,
    ]
    assert hooks.unknown == [2]
    assert hooks.outcomes == [
        (EventType.VIEW, "accepted", 3),
        (EventType.SEARCH, "accepted", 1),
        (EventType.VIEW, "event_too_old", 1),
    ]


async def test_a_cancelled_caller_does_not_stop_the_write() -> None:
    store = ScriptedStore()
    store.gate.clear()
    ingest = ingestor(store)
    caller = asyncio.create_task(ingest.ingest("default", [view("e1")]))
    await eventually_async(lambda: store.calls)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert caller.cancelled()
    assert store.finished == 0
    store.gate.set()
    await ingest.drain()
    assert store.finished == 1


async def test_a_caller_cancelled_before_the_write_began_does_not_stop_it_either() -> None:
    store = ScriptedStore()
    ingest = ingestor(store)
    caller = asyncio.create_task(ingest.ingest("default", [view("e1")]))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await ingest.drain()
    assert store.finished == 1


class Told(Watches):
    """Watches that note who is told of what, and when."""

    def __init__(self, count: int, store: ScriptedStore):
        super().__init__()
        self.count, self.store = count, store
        self.heard: list[tuple[str, list[str], int]] = []

    def __len__(self) -> int:
        return self.count

    def acknowledged(self, tenant: str, events: Iterable[Event]) -> None:
        self.heard.append((tenant, [event.event_id for event in events], self.store.finished))


async def test_watches_hear_of_what_is_visible_and_of_nothing_else() -> None:
    statuses = [AppendStatus.ACCEPTED, AppendStatus.DUPLICATE, AppendStatus.CONFLICT, AppendStatus.UNAVAILABLE]
    store = ScriptedStore([AppendResult(status, 1) for status in statuses])
    told = Told(1, store)
    ingestion = EventIngestor(store, ManualClock(), retention_ms=DAY_MS, watches=told)
    events = [view(f"e{n}") for n in range(4)]
    await ingestion.ingest("t", events)
    assert told.heard == [("t", ["e0", "e1"], 1)]


async def test_watches_hear_of_an_event_whose_caller_has_gone() -> None:
    store = ScriptedStore()
    told = Told(1, store)
    ingestion = EventIngestor(store, ManualClock(), retention_ms=DAY_MS, watches=told)
    store.gate.clear()
    caller = asyncio.create_task(ingestion.ingest("t", [view("e")]))
    await eventually_async(lambda: store.calls)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    store.gate.set()
    await ingestion.drain()
    assert told.heard == [("t", ["e"], 1)]


async def test_without_watches_nobody_is_told() -> None:
    store = ScriptedStore()
    told = Told(0, store)
    await EventIngestor(store, ManualClock(), retention_ms=DAY_MS, watches=told).ingest("t", [view("e")])
    assert told.heard == []
