"""Which events of a group are new: a pure decision, taken before anything is written.

Two steps, with the look-up of the known ids between them:

    (tenant, AppendEvent)*  -> prepare -> Prepared*           keys, digest, encoded body
    Prepared*, KnownId*     -> decide  -> Decision*           accepted, duplicate or conflict; sequences given out
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from recserv.stores.base import EVENT_AHEAD_MS_MAX, AppendEvent, AppendStatus
from recserv.stores.keys import event_digest, timeline_key
from recserv.types import Event


class LogBody(msgspec.Struct, frozen=True, array_like=True):
    """What a row of the log holds besides its columns. New fields go to the end, with defaults."""

    event: Event
    body_hash: bytes
    event_time_ms: int


class Prepared(msgspec.Struct, frozen=True):
    tenant: str
    append: AppendEvent
    timeline: str
    digest: bytes
    body: bytes


class KnownId(msgspec.Struct, frozen=True, gc=False):
    """An event id that was used before."""

    body_hash: bytes
    sequence: int
    arrival_ms: int


class Decision(msgspec.Struct, frozen=True, gc=False):
    """`sequence`: the event's own if ACCEPTED, else that of the event that used the id first."""

    status: AppendStatus
    sequence: int = 0
    error: str = ""


_ENCODER = msgspec.msgpack.Encoder()


def prepare(tenant: str, append: AppendEvent) -> Prepared | str:
    """The event ready to be written, or why it cannot be (text that has no UTF-8 form, numbers beyond 64 bits)."""
    event = append.event
    try:
        timeline = timeline_key(tenant, event.session_id, event.user_id)
        digest = event_digest(timeline, event.event_id)
        body = _ENCODER.encode(LogBody(event, append.body_hash, append.event_time_ms))
    except (UnicodeEncodeError, OverflowError, msgspec.MsgspecError) as error:
        return f"the event cannot be encoded: {type(error).__name__}"
    return Prepared(tenant, append, timeline, digest, body)


def decide(
    group: Sequence[Prepared | str], known: Mapping[bytes, KnownId], last_sequence: int, retention_ms: int
) -> list[Decision]:
    """One decision per event, in order. New events get `last_sequence + 1` and so on.

    Ids are unique within the group too. An id whose event arrived longer before this one than ids are kept is free
    again, whether it was swept already or not.
    """
    kept_ms = retention_ms + EVENT_AHEAD_MS_MAX
    seen: dict[bytes, KnownId] = {}
    decisions = []
    for entry in group:
        if isinstance(entry, str):
            decisions.append(Decision(AppendStatus.UNAVAILABLE, 0, entry))
            continue
        append = entry.append
        first = seen.get(entry.digest)
        if first is None:
            first = known.get(entry.digest)
            if first is not None and first.arrival_ms < append.arrival_ms - kept_ms:
                first = None
        if first is None:
            last_sequence += 1
            seen[entry.digest] = KnownId(append.body_hash, last_sequence, append.arrival_ms)
            decisions.append(Decision(AppendStatus.ACCEPTED, last_sequence))
        elif first.body_hash == append.body_hash:
            decisions.append(Decision(AppendStatus.DUPLICATE, first.sequence))
        else:
            decisions.append(Decision(AppendStatus.CONFLICT, first.sequence))
    return decisions


def new_entries(group: Iterable[Prepared | str], decisions: Iterable[Decision]) -> list[tuple[Prepared, int]]:
    """The accepted events with their sequences."""
    return [
        (entry, decision.sequence)
        for entry, decision in zip(group, decisions, strict=True)
        if decision.status == AppendStatus.ACCEPTED and not isinstance(entry, str)
    ]
