"""The past of users, given to a store by `recserv import`: which of it is new, and what the profile is with it.

    history, UserPast -> fold -> Fold -> profile     pure; each store writes profile and history at once, or neither

A *history* stands beside a user's profile and lives as long: a mark of each event that was imported. It is what makes
an import of the same or of an overlapping file change nothing, whenever it comes and wherever the last one ended. No
request reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from recserv.stores.base import StateStore
from recserv.stores.state import apply_past
from recserv.types import MARK_BYTES, PAST_EVENTS_MAX, Event, Profile, UserPast


class PastResult(msgspec.Struct, frozen=True):
    """Of one user, events: `added` now, `known` from an import before, `expired`: older than profiles are kept.
    `too_many`: of a user with more than PAST_EVENTS_MAX, none is added.
    """

    added: int = 0
    known: int = 0
    expired: int = 0
    too_many: bool = False


class Fold(msgspec.Struct, frozen=True):
    """`events` and `marks` that are new: none of them if nothing is to be written."""

    events: tuple[Event, ...]
    marks: bytes
    result: PastResult

    def profile(self, before: Profile, sequence: int) -> Profile:
        return apply_past(before, self.events, sequence)


class PastStore(StateStore, Protocol):
    async def import_pasts(
        self, tenant: str, pasts: Sequence[UserPast], *, only_remember: bool = False
    ) -> list[PastResult]:
        """One result a user, in order; the users of one call are different ones. The profiles have the events as if
        each had arrived when it happened; `only_remember`: they have them already, as live events, and their marks are
        kept. Durable and visible before it returns. Raises StoreUnavailable; what was written by then is whole, and
        to call it again is safe.
        """


def fold(history: bytes, past: UserPast, oldest_kept_ms: int) -> Fold:
    """What of the past is new to the history. An event older than a profile is kept is not taken: its mark may be
    gone, and nobody would know whether it had been.
    """
    known = set(marks_of(history))
    kept = [
        (event, mark)
        for event, mark in zip(past.events, marks_of(past.marks), strict=True)
        if (event.event_time_ms or 0) >= oldest_kept_ms
    ]
    new = {mark: event for event, mark in kept if mark not in known}
    expired = len(past.events) - len(kept)
    if len(known) + len(new) > PAST_EVENTS_MAX:
        return Fold((), b"", PastResult(expired=expired, too_many=True))
    return Fold(tuple(new.values()), b"".join(new), PastResult(len(new), len(kept) - len(new), expired))


def marks_of(history: bytes) -> list[bytes]:
    return [history[at : at + MARK_BYTES] for at in range(0, len(history), MARK_BYTES)]
