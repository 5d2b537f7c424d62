"""The Redis state store: any number of processes, one Redis, Sentinel or Redis Cluster. Layout: redis_keys.py.

    append   events -> by partition: one script call writes each event whole (id, session, log, counters, the profile
             of a session or of a user without one) -> for users with a session: a second script call in the user's
             partition -> answered
    read     keys -> one MGET a partition, all at once, with those of every other request of this turn of the loop
             -> packed bytes -> ShopperState

Both scripts recognise what they have done already, so any call may be repeated: by us when a connection breaks, by the
caller when an answer got lost. An event whose second half is missing is answered UNAVAILABLE; its retry is a DUPLICATE
whose second half is written then. Writes run in tasks that the store owns; the caller only waits for them.

Sequences count within a partition. A merged profile carries the sum of its two, which grows with each of them; so does
a merged session.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence

import msgspec

from recserv._codec import scan_session
from recserv.errors import StoreUnavailable, UsageError
from recserv.resilience.deadline import MonotonicClock
from recserv.resilience.endless import endless
from recserv.stores.base import AppendEvent, AppendResult, AppendStatus, StateVersion
from recserv.stores.decide import prepare
from recserv.stores.hooks import StoreHooks
from recserv.stores.packed import Undecodable, unpack_head, unpack_profile, unpack_session
from recserv.stores.past import PastResult
from recserv.stores.redis_calls import (
    APPEND_SCRIPT,
    PROFILE_SCRIPT,
    Located,
    RedisRetention,
    ScriptCall,
    Stored,
    Undecoded,
    append_calls,
    locate,
    parse_append,
    parse_profile,
    profile_calls,
    read_keys,
)
from recserv.stores.redis_check import check_version, durability_problems, read_facts
from recserv.stores.redis_faults import Fault
from recserv.stores.redis_keys import Partition
from recserv.stores.redis_link import Call, LinkTimeouts, RedisLink
from recserv.stores.redis_past import PAST_SCRIPT, RedisPasts
from recserv.stores.redis_router import RedisTimeouts, Router
from recserv.stores.redis_token_key import RedisTokenKey
from recserv.stores.redis_url import RedisTarget, parse_target
from recserv.stores.redis_versions import read_versions
from recserv.stores.state import EMPTY_PROFILE, EMPTY_SESSION, merge_profiles, merge_sessions
from recserv.types import (
    DAY_MS,
    SESSION_TTL_MS,
    SESSION_WINDOW_MS,
    Clock,
    PackedSession,
    Profile,
    SessionState,
    ShopperKey,
    ShopperState,
    UserPast,
    wall_clock_ms,
)

_log = logging.getLogger(__name__)

_LOST = AppendStatus.UNAVAILABLE
CHECK_TIMEOUT_S = 2.0
"""For reading a server's settings; longer if connecting may take longer."""


class RedisLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Every bound of the store. `log_entries_max`: a partition of a tenant, of which there are 256."""

    queue_events_max: int = 20_000
    log_entries_max: int = 100_000
    profile_retention_ms: int = 400 * DAY_MS
    anonymous_profile_retention_ms: int = 30 * DAY_MS
    token_key_check_s: float = 10.0
    timeouts: RedisTimeouts = RedisTimeouts()


class RedisStore:
    """A `StateStore`. Opened, used and closed on one event loop; cannot be opened again after `close`.

    `retention_ms` is for event ids, `log_retention_ms` for the event log. `require_durable`: refuse a server that could
    lose what was acknowledged, by its settings.
    """

    def __init__(
        self,
        target: str | RedisTarget,
        *,
        clock: Clock = wall_clock_ms,
        monotonic: MonotonicClock = time.monotonic,
        retention_ms: int = DAY_MS,
        log_retention_ms: int = 7 * DAY_MS,
        limits: RedisLimits | None = None,
        require_durable: bool = False,
        hooks: StoreHooks | None = None,
    ):
        self._target = parse_target(target) if isinstance(target, str) else target
        self._clock = clock
        self._monotonic = monotonic
        self._limits = limits = limits or RedisLimits()
        self._timeouts = limits.timeouts
        self._require_durable = require_durable
        self._hooks = hooks or StoreHooks()
        self._retention = RedisRetention(
            ids_ms=retention_ms,
            log_ms=max(log_retention_ms, SESSION_TTL_MS),
            log_entries_max=limits.log_entries_max,
            profile_ms=limits.profile_retention_ms,
            anonymous_profile_ms=limits.anonymous_profile_retention_ms,
        )
        self._router = Router(self._target, self._timeouts, (APPEND_SCRIPT, PROFILE_SCRIPT, PAST_SCRIPT), monotonic)
        self._pasts = RedisPasts(self._router, self._retention, self._hooks)
        self._token_key = RedisTokenKey(self._router, limits.token_key_check_s)
        self._watching: asyncio.Task[None] | None = None
        self._serving = False
        self._closing: asyncio.Task[None] | None = None
        self._writes: set[asyncio.Task[list[AppendResult]]] = set()
        self.queued_events = 0

    async def open(self) -> None:
        """Finds the servers and checks their settings. Raises StoreUnavailable; UsageError if they never can serve."""
        try:
            await self._router.open()
            for address in self._router.topology.addresses():
                check_s = max(CHECK_TIMEOUT_S, self._timeouts.connect_s)
                timeouts = LinkTimeouts(connect_s=check_s, exchange_s=check_s)
                await self._check(RedisLink(self._target, address, timeouts))
            await self._token_key.look()
        except BaseException:
            await self._router.close()
            raise
        self._serving = True
        self._watching = asyncio.create_task(endless(self._token_key.watch, "token key", _log))

    @property
    def token_key(self) -> bytes:
        return self._token_key.value

    async def _check(self, link: RedisLink) -> None:
        try:
            facts = await read_facts(link)
        finally:
            await link.close()
        check_version(facts)
        problems = durability_problems(facts)
        if problems and self._require_durable:
            raise UsageError(f"state: {link.address} may lose acknowledged events: " + "; ".join(problems))
        for problem in problems:
            _log.warning("%s: %s", link.address, problem)

    async def close(self) -> None:
        if self._serving:
            self._serving = False
            self._closing = asyncio.create_task(self._close())
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        while self._writes:
            await asyncio.wait(self._writes)
        await self._router.close()

    # Writing

    async def append(self, tenant: str, events: Sequence[AppendEvent]) -> list[AppendResult]:
        if not events:
            return []
        if not self._serving:
            return self._refused(events, "closed", "the state store is not open")
        count = len(events)
        # A call larger than the whole queue still passes when the queue is empty.
        if self.queued_events and self.queued_events + count > self._limits.queue_events_max:
            return self._refused(events, "queue_full", f"{self.queued_events} events are waiting to be written already")
        self.queued_events += count
        # Handed over before anything is awaited, so that events keep the order of their calls.
        write = _Write(tenant, events, self._retention)
        begun = self._begin(write.first_calls)
        task = asyncio.create_task(self._finish(write, begun))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)

    def _refused(self, events: Sequence[AppendEvent], cause: str, text: str) -> list[AppendResult]:
        self._hooks.on_unavailable(len(events), cause)
        return [AppendResult(_LOST, 0, text)] * len(events)

    def _begin(self, calls: Iterable[ScriptCall]) -> list[tuple[ScriptCall, Call]]:
        return [(call, self._router.begin(call.slot, call.args, write=True, weight=len(call.places))) for call in calls]

    async def _finish(self, write: _Write, begun: Sequence[tuple[ScriptCall, Call]]) -> list[AppendResult]:
        began_s = self._monotonic()
        try:
            for call, answer in await self._answers(begun):
                self._report_undecoded(write.take_first(call, answer))
            if second := write.second_calls():
                for call, answer in await self._answers(self._begin(second)):
                    self._report_undecoded(write.take_second(call, answer))
        finally:
            self.queued_events -= len(write.results)
        for cause, count in write.lost.items():
            _log.error("Redis could not write %d events: %s (%s)", count, cause, write.problems[cause])
            self._hooks.on_unavailable(count, cause)
        accepted = sum(result.status == AppendStatus.ACCEPTED for result in write.results)
        if accepted:
            self._hooks.on_commit(accepted, self._monotonic() - began_s)
        return write.results

    async def _answers(self, begun: Sequence[tuple[ScriptCall, Call]]) -> list[tuple[ScriptCall, object]]:
        """Each call with its answer, or with the StoreUnavailable that stands for it."""
        answers: list[tuple[ScriptCall, object]] = []
        for script, call in begun:
            try:
                answers.append((script, await self._router.finish(script.slot, call, write=True)))
            except StoreUnavailable as error:
                answers.append((script, error))
        return answers

    def _report_undecoded(self, undecoded: Undecoded) -> None:
        for kind in ("sessions", "profiles", "ids", "heads"):
            if count := getattr(undecoded, kind):
                self._hooks.on_undecodable(kind, count)

    async def import_pasts(
        self, tenant: str, pasts: Sequence[UserPast], *, only_remember: bool = False
    ) -> list[PastResult]:
        """As `PastStore`: all users of a call at once, each written by one script."""
        if not self._serving:
            raise StoreUnavailable("the state store is not open")
        return await self._pasts.write(tenant, pasts, self._clock(), only_remember=only_remember)

    # Reading

    async def read(self, tenant: str, keys: Sequence[ShopperKey]) -> list[ShopperState]:
        if not self._serving:
            raise StoreUnavailable("the state store is not open")
        places = [read_keys(tenant, key.session_id, key.user_id) for key in keys]
        wanted: dict[Partition, dict[bytes, None]] = {}
        for place in places:
            for partition, found in place.items():
                wanted.setdefault(partition, {}).update(dict.fromkeys(found))
        begun = [
            (partition, names, self._router.begin(partition.slot, ("MGET", partition.head, *names), write=False))
            for partition, names in wanted.items()
        ]
        values: dict[bytes, bytes | None] = {}
        try:
            for partition, names, call in begun:
                answer = await self._router.finish(partition.slot, call, write=False)
                if not isinstance(answer, list) or len(answer) != len(names) + 1:
                    raise Fault("server_error", "Redis answered MGET with something other than values")
                values.update(zip((partition.head, *names), answer, strict=True))
        except Fault as fault:
            self._hooks.on_read_failed(fault.cause)
            raise
        decoder = _Decoder(values, self._clock(), self._hooks)
        return [decoder.state(key, place) for key, place in zip(keys, places, strict=True)]

    async def versions(self, tenant: str, keys: Sequence[ShopperKey]) -> list[StateVersion]:
        if not self._serving:
            raise StoreUnavailable("the state store is not open")
        try:
            return await read_versions(self._router, tenant, keys)
        except Fault as fault:
            self._hooks.on_read_failed(fault.cause)
            raise


class _Write:
    """The events of one append in flight: the calls made, their results, and what is still missing."""

    def __init__(self, tenant: str, events: Sequence[AppendEvent], retention: RedisRetention):
        self._retention = retention
        self._located: dict[int, Located] = {}
        self._stored: dict[int, Stored] = {}
        self.lost: dict[str, int] = {}
        self.problems: dict[str, str] = {}
        self.results = [AppendResult(_LOST, 0, "Redis gave no answer")] * len(events)
        for place, located in enumerate(locate([prepare(tenant, append) for append in events])):
            if isinstance(located, str):
                self._lose([place], "not_encodable", located)
            else:
                self._located[place] = located
        self.first_calls = append_calls(list(self._located.items()), retention)

    def _lose(self, places: Sequence[int], cause: str, text: str) -> None:
        for place in places:
            self.results[place] = AppendResult(_LOST, 0, text)
        self.lost[cause] = self.lost.get(cause, 0) + len(places)
        self.problems.setdefault(cause, text)

    def take_first(self, call: ScriptCall, answer: object) -> Undecoded:
        """Settles the events, but for those with a second half."""
        try:
            if isinstance(answer, StoreUnavailable):
                raise answer
            stored, undecoded = parse_append(answer, len(call.places))
        except StoreUnavailable as error:
            self._lose(call.places, _cause_of(error), str(error))
            return Undecoded()
        for place, first in zip(call.places, stored, strict=True):
            if first.status == AppendStatus.CONFLICT:
                text = "the event id was used before with another body"
                self.results[place] = AppendResult(AppendStatus.CONFLICT, 0, text)
            elif not first.deferred:
                self.results[place] = AppendResult(first.status, first.sequence)
            else:
                self._stored[place] = first
        return undecoded

    def second_calls(self) -> list[ScriptCall]:
        waiting = [(place, self._located[place], first) for place, first in self._stored.items()]
        return profile_calls(waiting, self._retention)

    def take_second(self, call: ScriptCall, answer: object) -> Undecoded:
        try:
            if isinstance(answer, StoreUnavailable):
                raise answer
            undecoded = parse_profile(answer)
        except StoreUnavailable as error:
            self._lose(call.places, _cause_of(error), str(error))
            return Undecoded()
        for place in call.places:
            self.results[place] = AppendResult(self._stored[place].status, self._stored[place].sequence)
        return undecoded


def _cause_of(error: StoreUnavailable) -> str:
    return error.cause if isinstance(error, Fault) else "server_error"


class _Decoder:
    """States out of the values of one read. What cannot be decoded counts as not there, and is reported."""

    def __init__(self, values: dict[bytes, bytes | None], now_ms: int, hooks: StoreHooks):
        self._values = values
        self._now_ms = now_ms
        self._hooks = hooks

    def state(self, key: ShopperKey, place: dict[Partition, tuple[bytes, ...]]) -> ShopperState:
        (of_timeline, names), *of_user = place.items()
        session = self._session(names[0])
        profile = self._profile(names[1])
        sequence = user_sequence = self._sequence(of_timeline)
        if key.session_id and key.user_id:
            # Both in one partition, or each in its own.
            partition, (user_session, user_profile) = of_user[0] if of_user else (of_timeline, names[2:])
            session = merge_sessions(session, self._session(user_session))
            own = self._profile(user_profile)
            both = own.sequence + profile.sequence
            profile = merge_profiles(own, profile)
            if profile.sequence != both:
                profile = msgspec.structs.replace(profile, sequence=both)
            user_sequence = self._sequence(partition)
        return ShopperState(session, profile, sequence, user_sequence)

    def _sequence(self, partition: Partition) -> int:
        try:
            return unpack_head(self._values[partition.head]).sequence
        except Undecodable as error:
            self._report("heads", error)
            return 0

    def _session(self, name: bytes) -> SessionState | PackedSession:
        """Its visible part, still packed."""
        data = self._values[name]
        if not data:
            return EMPTY_SESSION
        horizon_ms = self._now_ms - SESSION_WINDOW_MS
        try:
            size, version = scan_session(data, horizon_ms)
        except ValueError as error:
            self._report("sessions", error)
            return EMPTY_SESSION
        return PackedSession(data, size, version, horizon_ms, unpack_session) if size else EMPTY_SESSION

    def _profile(self, name: bytes) -> Profile:
        data = self._values[name]
        if not data:
            return EMPTY_PROFILE
        try:
            return unpack_profile(data)
        except Undecodable as error:
            self._report("profiles", error)
            return EMPTY_PROFILE

    def _report(self, kind: str, error: ValueError) -> None:
        _log.error("Redis holds a value that cannot be decoded: %s", error)
        self._hooks.on_undecodable(kind, 1)
