"""The protocol of a state store: what every backend promises, and what its contract suite tests.

    append   events -> durable, then visible to every later read, then answered; a result per event
    read     shopper keys -> consistent states, one batch

An event belongs to one *timeline* (its session, else its user) and to one *profile* (its user, else its session). The
timeline holds the live session and the scope in which event ids are unique; the profile holds cart, purchases and
taste, and outlives it. A read of a session of a known user merges the session's anonymous profile into the user's, and
into the session what the user's own timeline holds: a shop's search page may know its user and not the session. An
event that names both counts in the user's profile; if it takes an item out of the cart, buys or dislikes it, the
session's anonymous profile follows (`state.settle_anonymous`), so that the merge does not bring the item back.

Idempotency: a second event with the same (tenant, timeline, event id) changes nothing; it is DUPLICATE if
`types.body_hash` agrees and CONFLICT otherwise. Within one call the same holds between its events, in order. An id is
remembered until an event arrives more than `retention + EVENT_AHEAD_MS_MAX` after the first: an event may be dated that
far ahead, so a retry of it passes the check of its age that much longer.

Sequences grow with the order of acknowledgement. They are comparable within one store (embedded) or within one
partition (Redis), never across.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

import msgspec

from recserv.types import EVENT_AHEAD_MS_MAX, Event, ShopperKey, ShopperState

__all__ = ["EVENT_AHEAD_MS_MAX"]


class AppendStatus(IntEnum):
    ACCEPTED = 1
    DUPLICATE = 2
    CONFLICT = 3
    UNAVAILABLE = 4


class AppendResult(msgspec.Struct, frozen=True, gc=False):
    """`sequence` of the stored event: also for a DUPLICATE (that of the first); 0 for CONFLICT and UNAVAILABLE."""

    status: AppendStatus
    sequence: int = 0
    error: str = ""


class AppendEvent(msgspec.Struct, frozen=True):
    """A validated event with what the server adds: `arrival_ms`, and `event_time_ms` filled in if it was unset.

    `body_hash` was taken before anything was filled in.
    """

    event: Event
    body_hash: bytes
    arrival_ms: int
    event_time_ms: int


StateVersion = tuple[int, ...]
"""Of a shopper's state: the version of the session and the sequence of the profile; for a session of a known user those
of the user's own timeline and of the session's anonymous profile besides. In Redis each is told apart also from that of
an event which took the number of one that a failover lost. They are equal or not, for the same key at the same store:
numbers of one place are never compared with those of another. Empty: the part of the store that has it cannot be asked
now.
"""


class StateStore(Protocol):
    @property
    def token_key(self) -> bytes:
        """What consistency tokens are made with, never waited for: random, kept with the state, the same for all who
        share it, and another one if the state was lost. Empty while there is no state at all.
        """

    async def open(self) -> None:
        """Makes the store ready; raises StoreUnavailable, or UsageError if what it was given can never work."""

    async def close(self) -> None:
        """Finishes the writes that were taken, then lets go of everything. Idempotent."""

    async def append(self, tenant: str, events: Sequence[AppendEvent]) -> list[AppendResult]:
        """One result per event, in order. Never raises for a fault of the backend: those events are UNAVAILABLE.

        ACCEPTED and DUPLICATE are answered only once the event is durable and visible to reads. Cancelling the caller
        neither stops nor rolls back a write that was taken.
        """

    async def read(self, tenant: str, keys: Sequence[ShopperKey]) -> list[ShopperState]:
        """One state per key, in order, as of now: events outside the session window are already left out. Unknown keys
        give empty states. Raises StoreUnavailable.
        """

    async def versions(self, tenant: str, keys: Sequence[ShopperKey]) -> list[StateVersion]:
        """One version per key, in order: another one than before if an event became visible in what `read` gives for
        that key, else the same (unless something was evicted or has expired). A read that begins after this has
        returned sees at least what the versions stand for. Cheaper than `read`: no events, carts or tastes are moved.
        Raises StoreUnavailable if none can be asked for.
        """
