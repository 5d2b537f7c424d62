"""What the embedded store serves from memory: the live sessions, and the profiles used lately.

    commit  -> apply            sessions and profiles move on together, in the order of the log
    read    -> session, profile; a profile that is not here but known is loaded: begin_load ... end_load

One thread owns it, the event loop's, so a read between two commits sees neither of them by half.

A profile is loaded from the file while commits go on, and the row may be read just before a commit that is acknowledged
before the row gets here. So a load first declares its keys; a commit that touches a declared key leaves its result with
the load, and the newer of the two by sequence is served and kept. It does not matter whether the cache has dropped the
commit's result again in the meantime.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import islice
from sys import getsizeof

import msgspec

from recserv.resilience.lru import LruCache
from recserv.stores.base import AppendEvent
from recserv.stores.known_keys import KnownKeys
from recserv.stores.sizes import SESSION_BYTES, event_bytes, kept_profile_bytes
from recserv.stores.state import EMPTY_PROFILE, EMPTY_SESSION, apply_to_session, visible_session
from recserv.types import (
    SESSION_TTL_MS,
    SESSION_WINDOW_MS,
    Event,
    EventType,
    Profile,
    SessionEvent,
    SessionState,
)


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """An event that became part of the log."""

    tenant: str
    timeline: str
    append: AppendEvent
    sequence: int


class _Live:
    __slots__ = ("bytes", "newest_arrival_ms", "oldest_arrival_ms", "state")

    def __init__(self, arrival_ms: int, size: int):
        self.state = EMPTY_SESSION
        self.bytes = size
        # No event in `state` arrived before the first nor after the second: most reads need no look at each event.
        self.oldest_arrival_ms = arrival_ms
        self.newest_arrival_ms = arrival_ms


class _Watch:
    __slots__ = ("loads", "newest")

    def __init__(self) -> None:
        self.loads = 0
        self.newest: Profile | None = None


class LiveState:
    """Sessions and cached profiles, both bounded in number and in bytes (sizes.py). Not safe to share by threads."""

    def __init__(
        self,
        *,
        sessions_max: int,
        profiles_max: int,
        session_bytes_max: int | None = None,
        profile_bytes_max: int | None = None,
        known: KnownKeys | None = None,
    ):
        self._known = known or KnownKeys()
        self._sessions: OrderedDict[str, _Live] = OrderedDict()
        self._sessions_max = max(sessions_max, 1)
        self._session_bytes_max = session_bytes_max
        self._watches: dict[str, _Watch] = {}
        self.profiles: LruCache[str, Profile] = LruCache(profiles_max, profile_bytes_max, kept_profile_bytes)
        self.session_bytes = 0
        self.sequence = 0
        self.sessions_evicted = 0

    @property
    def session_count(self) -> int:
        return len(self._sessions)

    def apply(self, accepted: Iterable[Accepted], profiles: Mapping[str, Profile], sequence: int) -> None:
        """One commit. `profiles` are the results for every profile that it changed, `sequence` the last of the log."""
        for entry in accepted:
            self._apply_to_session(entry)
        for key, profile in profiles.items():
            self._known.add(key)
            self.profiles.put(key, profile)
            watch = self._watches.get(key)
            if watch is not None:
                watch.newest = profile
        self.sequence = sequence

    def profile(self, key: str) -> Profile | None:
        """The profile as of the last commit; None: it must be loaded."""
        cached = self.profiles.get(key)
        if cached is None and key not in self._known:
            return EMPTY_PROFILE
        return cached

    def _apply_to_session(self, entry: Accepted) -> None:
        append = entry.append
        if append.event.event_type == EventType.IMPRESSION:
            return
        live = self._sessions.get(entry.timeline)
        if live is None:
            size = SESSION_BYTES + getsizeof(entry.timeline)
            live = self._sessions[entry.timeline] = _Live(append.arrival_ms, size)
            self.session_bytes += size
        else:
            live.oldest_arrival_ms = min(live.oldest_arrival_ms, append.arrival_ms)
            live.newest_arrival_ms = max(live.newest_arrival_ms, append.arrival_ms)
            self._sessions.move_to_end(entry.timeline)
        before = live.state.events
        live.state = apply_to_session(live.state, append, entry.sequence)
        grown = _growth(before, live.state.events, append)
        live.bytes += grown
        self.session_bytes += grown
        self._evict()

    def _evict(self) -> None:
        """The sessions unused for longest, until both bounds hold; the newest stays."""
        bytes_max = self._session_bytes_max
        while len(self._sessions) > self._sessions_max or (
            bytes_max is not None and self.session_bytes > bytes_max and len(self._sessions) > 1
        ):
            self.session_bytes -= self._sessions.popitem(last=False)[1].bytes
            self.sessions_evicted += 1

    def session(self, timeline: str, now_ms: int) -> SessionState:
        live = self._sessions.get(timeline)
        if live is None:
            return EMPTY_SESSION
        if live.oldest_arrival_ms > now_ms - SESSION_WINDOW_MS:
            return live.state
        return visible_session(live.state, now_ms)

    def session_version(self, timeline: str) -> int:
        """Of the newest event ever put in, also if it has left the window; 0 for a session that is not there."""
        live = self._sessions.get(timeline)
        return 0 if live is None else live.state.version

    def expire(self, now_ms: int, checks_max: int) -> int:
        """Forgets sessions without an event for SESSION_TTL_MS, looking at the `checks_max` longest unused at most."""
        horizon_ms = now_ms - SESSION_TTL_MS
        gone = []
        for timeline, live in islice(self._sessions.items(), checks_max):
            if live.newest_arrival_ms <= horizon_ms:
                gone.append(timeline)
            elif live.newest_arrival_ms <= now_ms:
                # The rest was used later. A session dated ahead, by a clock set back since, must not end the search.
                break
        for timeline in gone:
            self.session_bytes -= self._sessions.pop(timeline).bytes
        return len(gone)

    def begin_load(self, keys: Iterable[str]) -> None:
        """Declares that the profiles of `keys` are about to be read from the file."""
        for key in keys:
            watch = self._watches.get(key)
            if watch is None:
                watch = self._watches[key] = _Watch()
            watch.loads += 1

    def end_load(self, keys: Iterable[str], loaded: Mapping[str, Profile] | None) -> dict[str, Profile]:
        """The profiles to serve for `keys`; a key without a row is an empty profile. None: the load failed."""
        profiles: dict[str, Profile] = {}
        for key in keys:
            watch = self._watches[key]
            watch.loads -= 1
            if not watch.loads:
                del self._watches[key]
            if loaded is None:
                continue
            profile = loaded.get(key, EMPTY_PROFILE)
            if watch.newest is not None and watch.newest.sequence > profile.sequence:
                profile = watch.newest
            # A load that began before another one ended may have read less than is cached by now.
            cached = self.profiles.peek(key)
            if cached is None or cached.sequence < profile.sequence:
                self.profiles.put(key, profile)
            else:
                profile = cached
            profiles[key] = profile
        return profiles

    def forget_profiles(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.profiles.drop(key)


def _growth(before: tuple[SessionEvent, ...], after: tuple[SessionEvent, ...], append: AppendEvent) -> int:
    """In bytes. Mostly an event came, or one came and the oldest went: only otherwise each is looked at."""
    if len(after) == len(before) + 1:
        return _event_bytes(append.event)
    if len(after) == len(before) > 1 and after[0] is before[1]:
        return _event_bytes(append.event) - _event_bytes(before[0])
    return sum(map(_event_bytes, after)) - sum(map(_event_bytes, before))


def _event_bytes(event: Event | SessionEvent) -> int:
    return event_bytes(event.item_id, event.search_query)
