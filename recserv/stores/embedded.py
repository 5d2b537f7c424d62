"""The embedded state store: one process, one SQLite file.

    append   loop: queue -> writer thread: one transaction per group -> loop: LiveState.apply, then the answers
    read     loop: LiveState; a profile that is not in memory comes from the reader's thread
    sweep    loop: expired sessions; writer thread: old ids, log rows and profiles

The event loop never calls sqlite3. What is read from memory is updated only after the commit, in the same callback that
answers the callers, so nothing is seen that could be lost and everything acknowledged is seen.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import msgspec

from recserv.errors import RecservError, StoreUnavailable
from recserv.resilience.deadline import MonotonicClock
from recserv.resilience.endless import endless
from recserv.stores.base import AppendEvent, AppendResult, AppendStatus, StateVersion
from recserv.stores.hooks import StoreHooks
from recserv.stores.keys import profile_key, timeline_key
from recserv.stores.known_keys import KnownKeys
from recserv.stores.memory import LiveState
from recserv.stores.past import PastResult
from recserv.stores.sqlite_file import FileLock, at_start, token_key
from recserv.stores.sqlite_log import LoggedEvent, Written, known_profiles, replay, select_log, select_profiles
from recserv.stores.sqlite_past import WrittenPasts, write_pasts
from recserv.stores.sqlite_reader import SqliteReader
from recserv.stores.sqlite_sweep import CounterRow, Retention, Sweeper, Swept, read_counters
from recserv.stores.sqlite_writer import AppendRequest, FileOptions, Group, SqliteWriter
from recserv.stores.state import merge_profiles, merge_sessions
from recserv.types import (
    DAY_MS,
    SESSION_TTL_MS,
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

T = TypeVar("T")

MIB = 1024 * 1024
_SESSION_CHECKS_PER_STEP = 1000


class EmbeddedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Every bound of the store. Of `memory_bytes_max` eleven sixteenths are for sessions, two each for profiles of the
    loop and of the writer, one for the filter of known profiles. `file_bytes_max` None: the disk is the bound; beyond
    it events are UNAVAILABLE. `sweep_interval_s` None: nothing is swept but by `sweep`.
    """

    queue_events_max: int = 20_000
    group_events_max: int = 1_000
    sessions_max: int = 500_000
    profiles_in_memory_max: int = 50_000
    memory_bytes_max: int = 1024 * MIB
    reads_waiting_max: int = 1_024
    log_rows_max: int = 20_000_000
    file_bytes_max: int | None = None
    profile_retention_ms: int = 400 * DAY_MS
    anonymous_profile_retention_ms: int = 30 * DAY_MS
    sweep_interval_s: float | None = 10.0
    sweep_rows_per_step: int = 1_000


class EmbeddedStore:
    """A `StateStore`. Opened, used and closed on one event loop; cannot be opened again after `close`.

    `retention_ms` is for event ids, `log_retention_ms` for the event log, by the clock given. `_synchronous` exists for
    the test that shows what FULL is for.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Clock = wall_clock_ms,
        monotonic: MonotonicClock = time.monotonic,
        retention_ms: int = DAY_MS,
        log_retention_ms: int = 7 * DAY_MS,
        limits: EmbeddedLimits | None = None,
        hooks: StoreHooks | None = None,
        _synchronous: str = "FULL",
    ):
        self._path = Path(path)
        self._clock = clock
        self._limits = limits = limits or EmbeddedLimits()
        self._hooks = hooks or StoreHooks()
        self._lock = FileLock(self._path)
        self._live = self._new_live()
        options = FileOptions(
            synchronous=_synchronous,
            file_bytes_max=limits.file_bytes_max,
            retention_ms=retention_ms,
            profiles_max=limits.profiles_in_memory_max,
            profile_bytes_max=limits.memory_bytes_max // 8,
            group_events_max=limits.group_events_max,
        )
        self._writer = SqliteWriter(self._path, options, self._group_from_writer, monotonic)
        self._reader = SqliteReader(self._path, waiting_max=limits.reads_waiting_max)
        self._sweeper = Sweeper(
            Retention(
                ids_ms=retention_ms,
                log_ms=max(log_retention_ms, SESSION_TTL_MS),
                log_rows_max=limits.log_rows_max,
                profile_ms=limits.profile_retention_ms,
                anonymous_profile_ms=limits.anonymous_profile_retention_ms,
                rows_per_step=limits.sweep_rows_per_step,
            )
        )
        self._token_key = b""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._serving = False
        self._closing: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._behind: Written | None = None
        self.queued_events = 0

    @property
    def session_count(self) -> int:
        return self._live.session_count

    @property
    def profiles_in_memory(self) -> int:
        return len(self._live.profiles)

    @property
    def profile_misses(self) -> int:
        """Profiles looked for in memory in vain, ever."""
        return self._live.profiles.misses

    @property
    def token_key(self) -> bytes:
        return self._token_key

    @property
    def sequence(self) -> int:
        """Of the newest committed event."""
        return self._live.sequence

    async def open(self) -> None:
        """Takes the file, creates it if there is none, and rebuilds the live sessions from its log.

        Raises UsageError: in use, not ours, damaged, of another schema version, a place that cannot hold it. Raises
        StoreUnavailable: disk full, I/O error. Then every file that it made is gone again.
        """
        self._loop = asyncio.get_running_loop()
        self._lock.acquire()
        self._writer.start()
        try:
            self._live = await self._on_writer(self._open_file)
        except BaseException:
            self._writer.stop()
            await asyncio.to_thread(self._writer.join)
            self._lock.release(undo=True)
            raise
        self._serving = True
        if (interval_s := self._limits.sweep_interval_s) is not None:
            self._sweeping = asyncio.create_task(endless(partial(self._sweep_forever, interval_s), "sweep", _log))

    def _new_live(self, known: KnownKeys | None = None) -> LiveState:
        limits = self._limits
        return LiveState(
            sessions_max=limits.sessions_max,
            profiles_max=limits.profiles_in_memory_max,
            session_bytes_max=limits.memory_bytes_max * 11 // 16,
            profile_bytes_max=limits.memory_bytes_max // 8,
            known=known or KnownKeys(bytes_max=limits.memory_bytes_max // 16),
        )

    def _open_file(self) -> LiveState:
        try:
            log = self._writer.open_log()
            self._token_key = token_key(log.connection)
            known = known_profiles(log.connection, self._limits.memory_bytes_max // 16)
            live = self._new_live(known)
            live.apply(replay(log.connection, self._clock() - SESSION_TTL_MS), {}, log.sequence)
        except sqlite3.Error as error:
            raise at_start(self._path, error) from error
        return live

    async def close(self) -> None:
        if self._loop is None:
            return
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if not self._serving:
            return
        self._serving = False
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        await self._reader.close()
        # Everything queued before this is written and answered first.
        await self._on_writer(lambda: None)
        self._writer.stop()
        await asyncio.to_thread(self._writer.join)
        self._lock.release()

    async def append(self, tenant: str, events: Sequence[AppendEvent]) -> list[AppendResult]:
        if not events:
            return []
        if not self._serving or self._loop is None:
            return self._refused(events, "closed", "the state store is not open")
        count = len(events)
        # A call larger than the whole queue still passes when the queue is empty.
        if self.queued_events and self.queued_events + count > self._limits.queue_events_max:
            return self._refused(events, "queue_full", f"{self.queued_events} events are waiting to be written already")
        reply: asyncio.Future[list[AppendResult]] = self._loop.create_future()
        self.queued_events += count
        self._writer.append(AppendRequest(tenant, events, reply))
        # Cancelling the caller cancels `reply` and nothing else.
        return await reply

    def _refused(self, events: Sequence[AppendEvent], cause: str, text: str) -> list[AppendResult]:
        self._hooks.on_unavailable(len(events), cause)
        return [AppendResult(AppendStatus.UNAVAILABLE, 0, text)] * len(events)

    def _group_from_writer(self, group: Group) -> None:
        self._call_loop(self._finish_group, group)

    def _finish_group(self, group: Group) -> None:
        """Whatever fails in here, the callers are answered: what no read shows yet is not acknowledged."""
        self.queued_events -= len(group.written.results)
        evicted_before = self._live.sessions_evicted
        results = group.written.results
        try:
            self._show(group.written)
        except Exception:
            _log.exception("%d events are in the state file and not yet in memory", len(group.written.accepted))
            results = [_not_shown(result) for result in results]
        start = 0
        for request in group.requests:
            end = start + len(request.events)
            if not request.reply.done():
                request.reply.set_result(results[start:end])
            start = end
        self._report(group, self._live.sessions_evicted - evicted_before)

    def _show(self, written: Written) -> None:
        """Takes what was committed into memory, what could not be taken the last time before it."""
        behind, self._behind = self._behind, None
        if behind is not None:
            try:
                self._live.apply(behind.accepted, behind.profiles, behind.sequence)
            except Exception:
                _log.exception("up to %d events stay out of memory until the next start", len(behind.accepted))
        if written.accepted:
            try:
                self._live.apply(written.accepted, written.profiles, written.sequence)
            except Exception:
                # Who sends these events again will be told that they are there: they must be.
                self._behind = written
                raise

    def _report(self, group: Group, sessions_evicted: int) -> None:
        written = group.written
        if written.accepted:
            self._hooks.on_commit(len(written.accepted), group.seconds)
        if sessions_evicted:
            self._hooks.on_sessions_evicted(sessions_evicted)
        lost = sum(result.status == AppendStatus.UNAVAILABLE for result in written.results)
        if lost:
            _log.error("the state store could not write %d events: %s", lost, written.error or "not encodable")
            self._hooks.on_unavailable(lost, written.cause or "not_encodable")

    async def read(self, tenant: str, keys: Sequence[ShopperKey]) -> list[ShopperState]:
        profiles = await self._profiles(tenant, keys)
        now_ms = self._clock()
        return [self._state(tenant, key, profiles, now_ms) for key in keys]

    async def versions(self, tenant: str, keys: Sequence[ShopperKey]) -> list[StateVersion]:
        """From memory, but for profiles that have left it."""
        profiles = await self._profiles(tenant, keys)
        live, found = self._live, []
        for key in keys:
            sessions = [timeline_key(tenant, key.session_id, key.user_id)]
            if key.session_id and key.user_id:
                sessions.append(timeline_key(tenant, "", key.user_id))
            sequences = [profiles[name].sequence for name in _profile_names(tenant, key)]
            found.append((*map(live.session_version, sessions), *sequences))
        return found

    async def _profiles(self, tenant: str, keys: Sequence[ShopperKey]) -> dict[str, Profile]:
        """By the names of all profiles that belong to `keys`."""
        if not self._serving:
            raise StoreUnavailable("the state store is not open")
        names = dict.fromkeys(name for key in keys for name in _profile_names(tenant, key))
        profiles: dict[str, Profile] = {}
        for name in names:
            cached = self._live.profile(name)
            if cached is not None:
                profiles[name] = cached
        if len(profiles) < len(names):
            profiles = await self._load(names, profiles)
        return profiles

    async def _load(self, names: Iterable[str], cached: dict[str, Profile]) -> dict[str, Profile]:
        """All of `names`, as of the end of the load: also those that were in memory when it began."""
        missing = [name for name in names if name not in cached]
        loaded: dict[str, Profile] | None = None
        self._live.begin_load(names)
        try:
            loaded = await self._reader.run(lambda connection: select_profiles(connection, missing))
            loaded.update(cached)
        finally:
            profiles = self._live.end_load(names, loaded)
        return profiles

    def _state(self, tenant: str, key: ShopperKey, profiles: dict[str, Profile], now_ms: int) -> ShopperState:
        session: SessionState | PackedSession
        session = self._live.session(timeline_key(tenant, key.session_id, key.user_id), now_ms)
        if key.session_id and key.user_id:
            session = merge_sessions(session, self._live.session(timeline_key(tenant, "", key.user_id), now_ms))
        own, *anonymous = [profiles[name] for name in _profile_names(tenant, key)]
        profile = merge_profiles(own, anonymous[0]) if anonymous else own
        return ShopperState(session, profile, self._live.sequence, self._live.sequence)

    async def import_pasts(
        self, tenant: str, pasts: Sequence[UserPast], *, only_remember: bool = False
    ) -> list[PastResult]:
        """As `PastStore`: all users of a call in one transaction."""
        if not self._serving:
            raise StoreUnavailable("the state store is not open")
        oldest_kept_ms = self._clock() - self._limits.profile_retention_ms

        def write() -> WrittenPasts:
            return write_pasts(self._writer.ready_log(), tenant, pasts, oldest_kept_ms, only_remember=only_remember)

        def show(written: WrittenPasts) -> None:
            self._live.apply((), written.profiles, written.sequence)

        try:
            return (await self._on_writer(write, show)).results
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the state file could not be written ({error})") from error

    async def counters(self) -> list[CounterRow]:
        """What was accepted, swept and is in the log, per tenant and event type, as of one commit."""
        return await self._reader.run(read_counters)

    async def log_after(self, sequence: int, rows_max: int) -> list[LoggedEvent]:
        """The log from behind `sequence`, in order, at most `rows_max` events."""
        where = "sequence > ? ORDER BY sequence LIMIT ?"
        return await self._reader.run(lambda connection: list(select_log(connection, where, (sequence, rows_max))))

    async def sweep(self) -> Swept:
        """Everything that has expired by now, at once; the background does the same bit by bit."""
        return await self._sweep(whole_round=True)

    async def _sweep(self, *, whole_round: bool) -> Swept:
        ids = log_rows = 0
        profile_keys: list[str] = []
        more_sessions = more = True
        while more_sessions:
            more_sessions = self._live.expire(self._clock(), _SESSION_CHECKS_PER_STEP) == _SESSION_CHECKS_PER_STEP
            await asyncio.sleep(0)
        while more:
            step = await self._on_writer(lambda: self._sweep_step(whole_round))
            self._live.forget_profiles(step.profile_keys)
            ids, log_rows = ids + step.ids, log_rows + step.log_rows
            profile_keys += step.profile_keys
            more = step.more
        if ids or log_rows or profile_keys:
            self._hooks.on_swept(ids, log_rows, len(profile_keys))
        return Swept(ids, log_rows, tuple(profile_keys))

    def _sweep_step(self, whole_round: bool) -> Swept:
        log = self._writer.ready_log()
        step = self._sweeper.step(log.connection, self._clock(), whole_round=whole_round)
        for key in step.profile_keys:
            log.profiles.drop(key)
        return step

    async def _sweep_forever(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self._sweep(whole_round=False)
            except (RecservError, sqlite3.Error) as error:
                _log.warning("the state store's sweep failed and is tried again later: %s", error)

    async def _on_writer(self, run: Callable[[], T], show: Callable[[T], None] | None = None) -> T:
        """`run()` on the writer's thread. Its errors are raised here. `show` takes what it did into memory, before that
        of anything that was written later.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(result: object, error: Exception | None) -> None:
            if show is not None and error is None:
                show(cast(T, result))
            if done.cancelled():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(cast(T, result))

        self._writer.call(run, lambda result, error: self._call_loop(settle, result, error))
        return await done

    def _call_loop(self, call: Callable[..., None], *arguments: object) -> None:
        """From the writer's thread. A loop that was closed before the store has nobody left to tell."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            _log.warning("the event loop was closed before the state store")


def _not_shown(result: AppendResult) -> AppendResult:
    if result.status not in (AppendStatus.ACCEPTED, AppendStatus.DUPLICATE):
        return result
    return AppendResult(AppendStatus.UNAVAILABLE, 0, "the event is stored and cannot be shown yet; send it again")


def _profile_names(tenant: str, key: ShopperKey) -> tuple[str, ...]:
    """The profile's own key first, then the anonymous one that is merged into it, if any."""
    own = profile_key(tenant, key.session_id, key.user_id)
    if key.user_id and key.session_id:
        return (own, profile_key(tenant, key.session_id, ""))
    return (own,)
