"""The past of users into a state: what `recserv import` does with what it has read.

    UserPast* -> batches -> the store's import_pasts       whatever is older than event ids are kept
                         -> append, then only remembered   what is younger, as the live events that they still can be

On a Redis that servers use too, an import is busy at most half of the time: after each batch it waits as long as the
batch took.

What a state keeps, and for how long, is up to the servers. An import removes nothing: it does not know for how long
they keep the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from recserv.errors import StoreUnavailable, UsageError
from recserv.resilience.deadline import MonotonicClock
from recserv.stores.base import AppendEvent, AppendStatus
from recserv.stores.embedded import EmbeddedLimits, EmbeddedStore
from recserv.stores.past import PastResult, PastStore
from recserv.stores.redis import RedisLimits, RedisStore
from recserv.stores.redis_router import RedisTimeouts
from recserv.stores.sqlite_file import FileInUse
from recserv.types import DAY_MS, MARK_BYTES, Clock, Event, UserPast, body_hash, wall_clock_ms

USERS_A_BATCH = 32
EVENTS_A_BATCH = 20_000
APPENDED_AT_ONCE = 256
ATTEMPTS = 5
PAUSE_S = 1.0
LOG_KEPT_MS = 3660 * DAY_MS
"""Longer than any server can be set to."""
_NOBODY_WAITS = RedisTimeouts(connect_s=2.0, read_s=5.0, write_s=5.0)

Sleep = Callable[[float], Awaitable[None]]
T = TypeVar("T")


class Imported(msgspec.Struct, kw_only=True):
    """`users`: whose profile changed. Events: `added` to profiles, of them `live` as live ones; `known`: from an import
    before, or because they arrived live with the same id; `expired`. `crowds`: users with too many events.
    """

    users: int = 0
    added: int = 0
    live: int = 0
    known: int = 0
    expired: int = 0
    crowds: int = 0


def past_store(state: str, clock: Clock = wall_clock_ms, id_retention_ms: int = DAY_MS) -> PastStore:
    """The store of `embedded:PATH` or `redis...`, not open yet. It removes nothing that is there."""
    if state.startswith("embedded:"):
        limits = EmbeddedLimits(sweep_interval_s=None)
        return EmbeddedStore(state.removeprefix("embedded:"), clock=clock, retention_ms=id_retention_ms, limits=limits)
    return RedisStore(
        state,
        clock=clock,
        retention_ms=id_retention_ms,
        log_retention_ms=LOG_KEPT_MS,
        limits=RedisLimits(timeouts=_NOBODY_WAITS),
    )


async def import_past(
    state: str,
    tenant: str,
    pasts: Iterable[UserPast],
    on_events: Callable[[int], None] = lambda _: None,
    *,
    id_retention_ms: int = DAY_MS,
) -> Imported:
    """`on_events` gets the number of events of each batch done; `id_retention_ms`: the same as of the state's servers.
    Raises UsageError; StoreUnavailable once the store stays away: what was written by then is whole, and the same call
    again goes on from there.
    """
    store = past_store(state, id_retention_ms=id_retention_ms)
    try:
        await store.open()
    except FileInUse as error:
        by = f" (process {error.holder})" if error.holder else ""
        path = state.removeprefix("embedded:")
        raise UsageError(
            f"state file {path} is held by a server{by}: stop it for as long as the import takes. A state in Redis can"
            " be imported into while servers use it"
        ) from error
    try:
        importer = Importer(store, tenant, shared=not state.startswith("embedded:"), id_retention_ms=id_retention_ms)
        for batch in batches(pasts):
            await importer.take(batch)
            on_events(sum(len(past.events) for past in batch))
    finally:
        await store.close()
    return importer.done


def batches(pasts: Iterable[UserPast]) -> Iterator[list[UserPast]]:
    """At most USERS_A_BATCH users; a batch ends with the user that brings it to EVENTS_A_BATCH events."""
    batch: list[UserPast] = []
    events = 0
    for past in pasts:
        batch.append(past)
        events += len(past.events)
        if len(batch) >= USERS_A_BATCH or events >= EVENTS_A_BATCH:
            yield batch
            batch, events = [], 0
    if batch:
        yield batch


class Importer:
    """`shared`: others use the store too. `id_retention_ms`: younger events may have come in live, with their ids."""

    def __init__(
        self,
        store: PastStore,
        tenant: str,
        *,
        shared: bool,
        id_retention_ms: int = DAY_MS,
        clock: Clock = wall_clock_ms,
        monotonic: MonotonicClock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ):
        self._store, self._tenant, self._shared = store, tenant, shared
        self._id_retention_ms = id_retention_ms
        self._clock, self._monotonic, self._sleep = clock, monotonic, sleep
        self.done = Imported()

    async def take(self, pasts: Sequence[UserPast]) -> None:
        """Raises StoreUnavailable."""
        began_s = self._monotonic()
        parted = [parted_at(past, self._clock() - self._id_retention_ms) for past in pasts]
        old = [past for past, _ in parted if past.events]
        changed = set()
        for past, result in zip(old, await self._remember(old, only_remember=False), strict=True):
            self._count(result)
            self.done.added += result.added
            if result.added:
                changed.add(past.user_id)
        if young := [past for _, past in parted if past.events]:
            changed |= await self._append(young)
        self.done.users += len(changed)
        if self._shared:
            await self._sleep(self._monotonic() - began_s)

    def _count(self, result: PastResult) -> None:
        self.done.known += result.known
        self.done.expired += result.expired
        self.done.crowds += result.too_many

    async def _remember(self, pasts: Sequence[UserPast], *, only_remember: bool) -> list[PastResult]:
        if not pasts:
            return []
        return await self._patiently(
            partial(self._store.import_pasts, self._tenant, pasts, only_remember=only_remember)
        )

    async def _append(self, pasts: Sequence[UserPast]) -> set[str]:
        """Appends them as live events, so that the store recognises the ids of those that did come in live. Then their
        marks are kept: one day the events will be too old for an append.
        """
        events = [event for past in pasts for event in past.events]
        changed = set()
        for begin in range(0, len(events), APPENDED_AT_ONCE):
            chunk = events[begin : begin + APPENDED_AT_ONCE]
            for event, accepted in zip(chunk, await self._patiently(partial(self._appended, chunk)), strict=True):
                self.done.live += accepted
                self.done.added += accepted
                self.done.known += not accepted
                if accepted:
                    changed.add(event.user_id)
        await self._remember(pasts, only_remember=True)
        return changed

    async def _appended(self, events: Sequence[Event]) -> list[bool]:
        """For each event, whether it was new to the store."""
        results = await self._store.append(self._tenant, [arrived_then(event) for event in events])
        if lost := [result.error for result in results if result.status == AppendStatus.UNAVAILABLE]:
            raise StoreUnavailable(lost[0])
        return [result.status == AppendStatus.ACCEPTED for result in results]

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Every call may be repeated; a failover takes seconds."""
        for attempt in range(1, ATTEMPTS):
            try:
                return await call()
            except StoreUnavailable:
                await self._sleep(PAUSE_S * 2 ** (attempt - 1))
        return await call()


def parted_at(past: UserPast, time_ms: int) -> tuple[UserPast, UserPast]:
    """What happened until then, and what happened later."""
    place = sum((event.event_time_ms or 0) <= time_ms for event in past.events)
    marks = past.marks[: place * MARK_BYTES], past.marks[place * MARK_BYTES :]
    return (
        UserPast(past.user_id, past.events[:place], marks[0]),
        UserPast(past.user_id, past.events[place:], marks[1]),
    )


def arrived_then(event: Event) -> AppendEvent:
    """As if it had arrived when it happened: so it is in a session only if that is still going on."""
    time_ms = event.event_time_ms or 0
    return AppendEvent(event, body_hash(event), time_ms, time_ms)
