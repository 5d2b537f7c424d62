"""Taking events in: the checks that need a clock, the write, and an outcome per event.

    Event*        -> admit   -> AppendEvent* and, for those that may not pass, their outcomes
    AppendEvent*  -> append  -> AppendResult*       one call of the store, out of reach of the caller's cancellation
    AppendResult* -> outcome -> IngestOutcome*      in the order of the events

What an event looks like by itself (ids, lengths, numbers) was checked before it gets here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from recserv.errors import EventConflict, EventTooOld, InvalidInput, RecservError, StoreUnavailable, Violation
from recserv.pipeline.tokens import encode_token
from recserv.stores.base import EVENT_AHEAD_MS_MAX, AppendEvent, AppendResult, AppendStatus, StateStore
from recserv.types import Clock, Event, EventType, IngestStatus, body_hash

_log = logging.getLogger(__name__)


class IngestOutcome(msgspec.Struct, frozen=True):
    """`consistency_token` for ACCEPTED and DUPLICATE, `error` for REJECTED."""

    status: IngestStatus
    consistency_token: str = ""
    error: RecservError | None = None


class IngestHooks:
    """What ingestion reports; the defaults do nothing. Called on the event loop, once per event."""

    def on_event(self, event_type: EventType, outcome: str) -> None:
        """`outcome`: accepted, duplicate, or the reason of the error in lower case."""

    def on_unknown_item(self, event_type: EventType) -> None:
        """An accepted event names an item that the model does not know."""


class EventIngestor:
    """`retention_ms` is for how long event ids are kept; `known_item` None: every item counts as known."""

    def __init__(
        self,
        store: StateStore,
        clock: Clock,
        *,
        retention_ms: int,
        known_item: Callable[[str], bool] | None = None,
        hooks: IngestHooks | None = None,
    ):
        self._store = store
        self._clock = clock
        self._retention_ms = retention_ms
        self._known_item = known_item
        self._hooks = hooks or IngestHooks()
        self._writes: set[asyncio.Task[list[AppendResult]]] = set()

    async def ingest(self, tenant: str, events: Sequence[Event]) -> list[IngestOutcome]:
        """One outcome per event, in order. A bad event is REJECTED with its error and does not touch the others.

        If the caller is cancelled, the events that were handed to the store are written all the same.
        """
        now_ms = self._clock()
        admitted = [self._admit(event, now_ms) for event in events]
        appends = [entry for entry in admitted if isinstance(entry, AppendEvent)]
        results = iter(await self._append(tenant, appends) if appends else ())
        outcomes = [
            _outcome(tenant, entry.event, next(results))
            if isinstance(entry, AppendEvent)
            else IngestOutcome(IngestStatus.REJECTED, error=entry)
            for entry in admitted
        ]
        for event, outcome in zip(events, outcomes, strict=True):
            self._report(event, outcome)
        return outcomes

    async def drain(self) -> None:
        """Returns once no write is under way, those of cancelled callers included."""
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
            return InvalidInput([Violation("event_time", text)])
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
        try:
            return await self._store.append(tenant, appends)
        except Exception as error:
            # A store answers per event; one that raises all the same must not turn into a crash of the whole batch.
            _log.exception("the state store raised on %d events", len(appends))
            lost = AppendResult(AppendStatus.UNAVAILABLE, 0, f"the state store failed ({type(error).__name__})")
            return [lost] * len(appends)

    def _report(self, event: Event, outcome: IngestOutcome) -> None:
        label = outcome.error.reason if outcome.error is not None else outcome.status.name
        self._hooks.on_event(event.event_type, label.lower())
        known = self._known_item
        if known is not None and outcome.status == IngestStatus.ACCEPTED and event.item_id and not known(event.item_id):
            self._hooks.on_unknown_item(event.event_type)


def _outcome(tenant: str, event: Event, result: AppendResult) -> IngestOutcome:
    if result.status == AppendStatus.CONFLICT:
        return IngestOutcome(IngestStatus.REJECTED, error=EventConflict(f"event_id: {result.error}"))
    if result.status == AppendStatus.UNAVAILABLE:
        return IngestOutcome(IngestStatus.REJECTED, error=StoreUnavailable(result.error))
    status = IngestStatus.ACCEPTED if result.status == AppendStatus.ACCEPTED else IngestStatus.DUPLICATE
    return IngestOutcome(status, encode_token(tenant, event.session_id, event.user_id, result.sequence))
