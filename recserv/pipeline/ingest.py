"""Ingestion of events: checks that need a clock, the write, and an outcome per event.

    Event*        -> admit   -> AppendEvent*, and outcomes for rejected events
    AppendEvent*  -> append  -> AppendResult*       one call of the store, shielded from the caller's cancellation
    AppendResult* -> outcome -> IngestOutcome*      in the order of the events

The form of each event (ids, lengths, numbers) has been validated before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from recserv.errors import EventConflict, EventTooOld, InvalidInput, RecservError, StoreUnavailable, Violation
from recserv.pipeline.guarded_store import GuardedStore, StoreGuard
from recserv.pipeline.tokens import encode_token
from recserv.pipeline.watch import Watches
from recserv.stores.base import EVENT_AHEAD_MS_MAX, AppendEvent, AppendResult, AppendStatus, StateStore
from recserv.types import Clock, Event, EventType, IngestStatus, body_hash


class IngestOutcome(msgspec.Struct, frozen=True):
    """`consistency_token` for ACCEPTED and DUPLICATE, `error` for REJECTED."""

    status: IngestStatus
    consistency_token: str = ""
    error: RecservError | None = None


class IngestHooks:
    """Callbacks of ingestion for the events of one call; the defaults do nothing. Called on the event loop."""

    def on_events(self, event_type: EventType, outcome: str, count: int) -> None:
        """`outcome`: accepted, duplicate, or the reason of the error in lower case."""

    def on_unknown_items(self, count: int) -> None:
        """Accepted events name items that the model does not know."""


class EventIngestor:
    """`retention_ms`: for how long event ids are kept. `known_item` None: every item counts as known. `store_guard`:
    the store's circuit breakers, shared with its other users. `watches` are notified of events before these are
    acknowledged.
    """

    def __init__(
        self,
        store: StateStore,
        clock: Clock,
        *,
        retention_ms: int,
        known_item: Callable[[str], bool] | None = None,
        hooks: IngestHooks | None = None,
        store_guard: StoreGuard | None = None,
        watches: Watches | None = None,
    ):
        self._watches = Watches() if watches is None else watches
        self._store = GuardedStore(store, store_guard)
        self._clock = clock
        self._retention_ms = retention_ms
        self._known_item = known_item
        self._hooks = hooks or IngestHooks()
        self._writes: set[asyncio.Task[list[AppendResult]]] = set()

    async def ingest(self, tenant: str, events: Sequence[Event]) -> list[IngestOutcome]:
        """One outcome per event, in order. A bad event is REJECTED with its error and does not affect the others.

        If the caller is cancelled, events already handed to the store are still written.
        """
        now_ms = self._clock()
        admitted = [self._admit(event, now_ms) for event in events]
        appends = [entry for entry in admitted if isinstance(entry, AppendEvent)]
        results = iter(await self._append(tenant, appends) if appends else ())
        outcomes = [
            _outcome(self._store.token_key, tenant, entry.event, next(results))
            if isinstance(entry, AppendEvent)
            else IngestOutcome(IngestStatus.REJECTED, error=entry)
            for entry in admitted
        ]
        self._report(events, outcomes)
        return outcomes

    @property
    def writes(self) -> int:
        """Store calls under way, including those of cancelled callers."""
        return len(self._writes)

    async def drain(self) -> None:
        """Returns once no write is under way, including those of cancelled callers."""
        while self._writes:
            await asyncio.wait(self._writes)

    def _admit(self, event: Event, now_ms: int) -> AppendEvent | RecservError:
        time_ms = event.event_time_ms
        if time_ms is None:
            return AppendEvent(event, body_hash(event), now_ms, now_ms)
        if time_ms > now_ms + EVENT_AHEAD_MS_MAX:
            ahead_s = (time_ms - now_ms) / 1000
            limit_s = EVENT_AHEAD_MS_MAX // 1000
            text = f"is {ahead_s:.0f} s ahead of the server's clock; at most {limit_s} s are accepted"
            return InvalidInput([Violation("event_time", text, "OUT_OF_RANGE")])
        if time_ms < now_ms - self._retention_ms:
            age_s, kept_s = (now_ms - time_ms) / 1000, self._retention_ms // 1000
            return EventTooOld(f"event_time is {age_s:.0f} s ago; event ids are kept for {kept_s} s")
        return AppendEvent(event, body_hash(event), now_ms, time_ms)

    async def _append(self, tenant: str, appends: list[AppendEvent]) -> list[AppendResult]:
        write = asyncio.create_task(self._write(tenant, appends))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        return await asyncio.shield(write)

    async def _write(self, tenant: str, appends: list[AppendEvent]) -> list[AppendResult]:
        """Also for cancelled callers, whose shopper another caller may be watching."""
        results = await self._store.append(tenant, appends)
        if self._watches:
            # Duplicates, too: the first one's acknowledgement may have been lost.
            self._watches.acknowledged(
                tenant,
                [
                    append.event
                    for append, result in zip(appends, results, strict=True)
                    if result.status in (AppendStatus.ACCEPTED, AppendStatus.DUPLICATE)
                ],
            )
        return results

    def _report(self, events: Sequence[Event], outcomes: Sequence[IngestOutcome]) -> None:
        known = self._known_item
        counts: dict[tuple[EventType, str], int] = {}
        unknown = 0
        for event, outcome in zip(events, outcomes, strict=True):
            key = event.event_type, outcome.error.reason if outcome.error is not None else outcome.status.name
            counts[key] = counts.get(key, 0) + 1
            if known is not None and event.item_id and outcome.status is IngestStatus.ACCEPTED:
                unknown += not known(event.item_id)
        for (event_type, name), count in counts.items():
            self._hooks.on_events(event_type, name.lower(), count)
        if unknown:
            self._hooks.on_unknown_items(unknown)


def _outcome(token_key: bytes, tenant: str, event: Event, result: AppendResult) -> IngestOutcome:
    if result.status == AppendStatus.CONFLICT:
        return IngestOutcome(IngestStatus.REJECTED, error=EventConflict(f"event_id: {result.error}"))
    if result.status == AppendStatus.UNAVAILABLE:
        return IngestOutcome(IngestStatus.REJECTED, error=StoreUnavailable(result.error))
    status = IngestStatus.ACCEPTED if result.status == AppendStatus.ACCEPTED else IngestStatus.DUPLICATE
    return IngestOutcome(status, encode_token(token_key, tenant, event.session_id, event.user_id, result.sequence))
