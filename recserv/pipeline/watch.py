"""Watches of recommendations: which watches an event concerns, and the outcome of a watch's next look. No I/O.

    acknowledged event -> Watches.acknowledged -> the flag of each watch of that shopper
    versions of a probe -> Watches.saw -> the flag of each watch whose shopper's version has changed
    flag -> a look (watch_runner.py) -> judge -> sent, unchanged, or postponed

A watch keeps its query, the digest of the last answer sent to its caller, and one flag, however many events arrive and
however slowly its caller reads. The flag is lowered before a look reads anything, and raised once an event is visible
to reads and before it is acknowledged. So an event acknowledged after a watch's last read leaves the flag up and causes
another look.

Two things raise it. Events that this process acknowledges are reported to the watches directly. Events that other
processes write to a shared store are found by polling the versions of all watched shoppers: `version` is the last one
seen, and any difference raises the flag, so probes and looks may overtake each other in any order. Publish and
subscribe would be faster but was rejected: a plain PUBLISH goes to every node of a cluster; sharded channels need Redis
7, and 6.2 is supported; a subscription misses what happens during a reconnect or a failover without notice; and it
needs a permission that a store's user may not have. Versions that are read are always true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import TypeVar

from recserv.pipeline.watch_answers import answer_digest, is_news, is_settled
from recserv.stores.base import StateVersion
from recserv.types import Event, Recommendation, ShopperKey

K = TypeVar("K")

_RETRY_S = (0.2, 5.0)
"""First and longest pause after a look that must be repeated; doubled each time, before jitter."""


class WatchHooks:
    """Callbacks of watches; the defaults do nothing. Called on the event loop."""

    def on_look(self, outcome: Outcome) -> None:
        """A look has ended."""

    def on_coalesced(self, changes: int) -> None:
        """This many changes found the flag already up, and so share a look."""


class Outcome(Enum):
    SENT = "sent"
    UNCHANGED = "unchanged"
    POSTPONED = "postponed"
    """The server was too busy, or a part of it was unavailable: there will be another look."""


class Watch:
    """One open watch. `changed` is the flag; initially up, so that there is a first look."""

    __slots__ = ("_failures", "changed", "key", "last", "looked_s", "tenant", "told", "version")

    def __init__(self, tenant: str, key: ShopperKey, last: bytes = b""):
        """last: digest of the answer that the caller has; empty if it has none."""
        self.tenant, self.key, self.last = tenant, key, last
        self.changed = asyncio.Event()
        self.changed.set()
        self.told = True
        """The flag was raised, but not by a probe, so `version` may be outdated."""
        self.version: StateVersion | None = None
        self.looked_s: float | None = None
        self._failures = 0

    def raise_flag(self) -> bool:
        """Returns whether it was down."""
        was_down = not self.changed.is_set()
        self.changed.set()
        return was_down

    def lower_flag(self) -> bool:
        """To be called before anything is read. Returns whether the watch must probe its own version before the read:
        otherwise the next probe would find the change that this look is about to see, and raise the flag in vain.
        """
        self.changed.clear()
        told, self.told = self.told, False
        return told

    def pause_s(self, now_s: float, interval_s: float, random: Callable[[], float]) -> float:
        """How long to wait before the next look."""
        if self.looked_s is None:
            return 0.0
        wait_s = interval_s
        if self._failures:
            first_s, longest_s = _RETRY_S
            # Jittered: what failed for one watch failed for all of them.
            retry_s = min(longest_s, first_s * 2.0 ** (self._failures - 1)) * (0.5 + 0.5 * random())
            wait_s = max(interval_s, retry_s)
        return max(0.0, self.looked_s + wait_s - now_s)

    def judge(self, answer: Recommendation | None, now_s: float) -> Outcome:
        """The outcome of a look; `answer` None: there was no room for it. An answer to be sent counts as one that the
        caller has. A look that must be repeated leaves the flag up.
        """
        self.looked_s = now_s
        if answer is None or not is_settled(answer):
            self._failures += 1
            # But `told` stays down: with no room for long, each try would probe the store. At worst the next probe
            # causes one look too many.
            self.changed.set()
        else:
            self._failures = 0
        if answer is not None and is_news(answer, self.last):
            self.last = answer_digest(answer)
            return Outcome.SENT
        return Outcome.POSTPONED if self._failures else Outcome.UNCHANGED


_Index = dict[tuple[str, ...], set[Watch]]


class Watches:
    """The open watches of one process, indexed by shopper. On the event loop."""

    def __init__(self, hooks: WatchHooks | None = None) -> None:
        self.hooks = hooks or WatchHooks()
        self._sessions: _Index = {}
        self._users: _Index = {}
        self._shoppers: _Index = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, watch: Watch) -> None:
        self._count += 1
        for index, key in self._places(watch):
            index.setdefault(key, set()).add(watch)

    def remove(self, watch: Watch) -> None:
        self._count -= 1
        for index, key in self._places(watch):
            watches = index[key]
            watches.remove(watch)
            if not watches:
                del index[key]

    def _places(self, watch: Watch) -> Iterator[tuple[_Index, tuple[str, ...]]]:
        tenant, key = watch.tenant, watch.key
        yield self._shoppers, (tenant, key.session_id, key.user_id)
        if key.session_id:
            yield self._sessions, (tenant, key.session_id)
        if key.user_id:
            yield self._users, (tenant, key.user_id)

    def acknowledged(self, tenant: str, events: Iterable[Event]) -> None:
        """To be called when these events are visible to reads and about to be acknowledged."""
        # Each watch is touched once: one call may bring hundreds of events of a session that a thousand watch.
        of_sessions: dict[tuple[str, ...], int] = {}
        of_users: dict[tuple[str, ...], int] = {}
        for event in events:
            if event.session_id and (key := (tenant, event.session_id)) in self._sessions:
                of_sessions[key] = of_sessions.get(key, 0) + 1
            if event.user_id and (key := (tenant, event.user_id)) in self._users:
                of_users[key] = of_users.get(key, 0) + 1
        for index, changed in ((self._sessions, of_sessions), (self._users, of_users)):
            for place, changes in changed.items():
                self._raise_all(index[place], changes)

    def all_changed(self) -> None:
        """To be called when another model has taken over."""
        for watches in self._shoppers.values():
            self._raise_all(watches)

    def _raise_all(self, watches: Collection[Watch], changes: int = 1) -> None:
        """Raises the flags for this many `changes` at once."""
        met = (changes - 1) * len(watches)
        for watch in watches:
            watch.told = True
            met += not watch.raise_flag()
        if met:
            self.hooks.on_coalesced(met)

    def shoppers(self, most: int) -> list[tuple[str, list[ShopperKey]]]:
        """The shoppers to probe: each watched one once, in batches of one tenant and at most `most` keys."""
        by_tenant: dict[str, list[ShopperKey]] = {}
        for tenant, session_id, user_id in self._shoppers:
            by_tenant.setdefault(tenant, []).append(ShopperKey(session_id, user_id))
        return [(tenant, batch) for tenant, keys in by_tenant.items() for batch in _batches(keys, most)]

    def saw(self, tenant: str, keys: Sequence[ShopperKey], versions: Sequence[StateVersion]) -> None:
        """Takes a probe's answer, a version for each key. Empty versions are ignored; the next probe tells more."""
        met = 0
        for key, version in zip(keys, versions, strict=True):
            if not version:
                continue
            for watch in self._shoppers.get((tenant, key.session_id, key.user_id), ()):
                if watch.version != version:
                    watch.version = version
                    met += not watch.raise_flag()
        if met:
            self.hooks.on_coalesced(met)


def _batches(entries: Iterable[K], most: int) -> Iterator[list[K]]:
    left = iter(entries)
    while batch := list(islice(left, most)):
        yield batch
