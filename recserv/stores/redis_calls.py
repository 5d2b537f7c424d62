"""The commands of the Redis store, as bytes: what goes into the two scripts and what comes out of them.

Prepared*              -> AppendCall*    the events of one partition, in order, at most so many a call
Prepared, Stored       -> ProfileCall*   the other half of those whose user lies in another partition
answers of the server  -> Stored, Undecoded
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Container, Iterable, Sequence
from importlib import resources

import msgspec

from recserv.errors import StoreUnavailable
from recserv.stores.base import EVENT_AHEAD_MS_MAX, AppendStatus
from recserv.stores.decide import Prepared
from recserv.stores.packed import EVENT_TYPES, pack_event
from recserv.stores.redis_keys import Partition, partition_of, session_name, user_name
from recserv.stores.redis_link import Argument
from recserv.stores.state import settles_anonymous, taste_weight
from recserv.types import SESSION_TTL_MS, SESSION_WINDOW_MS, EventType

_IMPRESSION = int(EventType.IMPRESSION)

EVENTS_PER_CALL_MAX = 64
"""A script blocks the server while it runs: this bounds for how long."""
_ID_TTL_SLACK_MS = 60_000

_APPEND_SPANS = struct.Struct("<qqqqqqqqI")
_APPEND_EVENT = struct.Struct("<HHHHBBqqqd16sHHHI")
_PROFILE_SPANS = struct.Struct("<qqq")
_PROFILE_EVENT = struct.Struct("<HHBqqqdQH")


def script(name: str) -> bytes:
    """With what all scripts share before it."""
    files = resources.files("recserv.stores")
    return b"\n".join(files.joinpath(f"{part}.lua").read_bytes() for part in ("redis_state", name))


APPEND_SCRIPT = script("redis_append")
PROFILE_SCRIPT = script("redis_profile")
_APPEND_SHA = hashlib.sha1(APPEND_SCRIPT, usedforsecurity=False).hexdigest()
_PROFILE_SHA = hashlib.sha1(PROFILE_SCRIPT, usedforsecurity=False).hexdigest()


class RedisRetention(msgspec.Struct, frozen=True, kw_only=True):
    """For how long Redis keeps what, in ms; log_entries_max a partition."""

    ids_ms: int
    log_ms: int
    log_entries_max: int
    profile_ms: int
    anonymous_profile_ms: int

    @property
    def head_ms(self) -> int:
        """Of a partition's sequence and counters: longer than anything that refers to them."""
        return 2 * max(self.ids_ms, self.log_ms, self.profile_ms, self.anonymous_profile_ms)

    @property
    def id_ttl_ms(self) -> int:
        return self.ids_ms + EVENT_AHEAD_MS_MAX + _ID_TTL_SLACK_MS

    def append_spans(self) -> bytes:
        return _APPEND_SPANS.pack(
            self.ids_ms + EVENT_AHEAD_MS_MAX,
            self.id_ttl_ms,
            SESSION_WINDOW_MS,
            SESSION_TTL_MS,
            self.profile_ms,
            self.anonymous_profile_ms,
            self.log_ms,
            self.head_ms,
            self.log_entries_max,
        )

    def profile_spans(self) -> bytes:
        return _PROFILE_SPANS.pack(self.id_ttl_ms, self.profile_ms, self.head_ms)


class Stored(msgspec.Struct, frozen=True, gc=False):
    """What the first script says of an event. The rest is that of the first event of its id; `deferred`: its profile is
    left to the second script.
    """

    status: AppendStatus
    sequence: int
    arrival_ms: int
    deferred: bool


class Undecoded(msgspec.Struct, frozen=True, gc=False):
    """Stored values that a script could not read and took for nothing."""

    sessions: int = 0
    profiles: int = 0
    ids: int = 0
    heads: int = 0


class Located(msgspec.Struct, frozen=True):
    """An event with where it belongs. `deferred`: its profile is written by the second script."""

    prepared: Prepared
    partition: Partition
    profile_partition: Partition
    deferred: bool
    record: tuple[bytes, bytes]


class ScriptCall(msgspec.Struct, frozen=True):
    """`places`: of its events in what was asked for."""

    slot: int
    args: tuple[Argument, ...]
    places: tuple[int, ...]


def locate(events: Sequence[Prepared | str]) -> list[Located | str]:
    """The events of one call with their partitions and session records, or why they have none.

    A user's profile is written together with an event that names no session, unless events of the same call name the
    user and a session: then all of them are left to the second script, which keeps their order.
    """
    both = [entry.append.event for entry in events if isinstance(entry, Prepared)]
    users = {event.user_id for event in both if event.user_id and event.session_id}
    return [entry if isinstance(entry, str) else _locate(entry, users) for entry in events]


def _locate(prepared: Prepared, users: Container[str]) -> Located | str:
    event, append = prepared.append.event, prepared.append
    if not 1 <= event.event_type <= EVENT_TYPES:
        return f"the event cannot be encoded: there is no type {int(event.event_type)}"
    try:
        record = pack_event(event, append.event_time_ms, append.arrival_ms)
    except (struct.error, UnicodeEncodeError) as error:
        return f"the event cannot be encoded: {type(error).__name__}"
    partition = partition_of(prepared.tenant, event.session_id or event.user_id)
    of_profile = partition_of(prepared.tenant, event.user_id) if event.user_id else partition
    return Located(prepared, partition, of_profile, event.user_id in users, record)


class _Keys:
    """The KEYS of a call, each once, numbered from 1."""

    def __init__(self, first: Iterable[bytes]):
        self._numbers = {key: number for number, key in enumerate(first, 1)}

    def number(self, key: bytes) -> int:
        return self._numbers.setdefault(key, len(self._numbers) + 1)

    def command(self, sha: str, arguments: Sequence[bytes]) -> tuple[Argument, ...]:
        return ("EVALSHA", sha, len(self._numbers), *self._numbers, *arguments)


def append_calls(located: Sequence[tuple[int, Located]], retention: RedisRetention) -> list[ScriptCall]:
    """Calls of the first script for events at these places; those of a partition keep their order."""
    by_partition: dict[Partition, list[tuple[int, Located]]] = {}
    for place, entry in located:
        by_partition.setdefault(entry.partition, []).append((place, entry))
    spans = retention.append_spans()
    return [
        _append_call(partition, entries[start : start + EVENTS_PER_CALL_MAX], spans)
        for partition, entries in by_partition.items()
        for start in range(0, len(entries), EVENTS_PER_CALL_MAX)
    ]


def _append_call(partition: Partition, entries: Sequence[tuple[int, Located]], spans: bytes) -> ScriptCall:
    keys = _Keys([partition.head, partition.log])
    arguments = [spans, *[_append_argument(keys, entry) for _, entry in entries]]
    return ScriptCall(partition.slot, keys.command(_APPEND_SHA, arguments), tuple(place for place, _ in entries))


def _append_argument(keys: _Keys, located: Located) -> bytes:
    prepared, partition = located.prepared, located.partition
    append, event = prepared.append, prepared.append.event
    kind = int(event.event_type)
    name = session_name(event.session_id) if event.session_id else user_name(event.user_id)
    seen = kind != _IMPRESSION
    profile = partition.profile(name)
    item = event.item_id.encode()
    before, after = located.record if seen else (b"", b"")
    fixed = _APPEND_EVENT.pack(
        keys.number(partition.event_id(prepared.digest)),
        keys.number(partition.session(name)) if seen else 0,
        0 if located.deferred else keys.number(profile),
        keys.number(profile) if settles_anonymous(event) else 0,
        kind,
        0 if event.session_id else 1,
        append.arrival_ms,
        append.event_time_ms,
        event.quantity,
        taste_weight(event),
        append.body_hash,
        len(item),
        len(before),
        len(after),
        len(prepared.body),
    )
    return b"".join((fixed, item, before, after, prepared.body))


def profile_calls(stored: Sequence[tuple[int, Located, Stored]], retention: RedisRetention) -> list[ScriptCall]:
    """Calls of the second script for deferred events that the first one has stored, in order of place."""
    by_partition: dict[Partition, list[tuple[int, Located, Stored]]] = {}
    for place, located, first in sorted(stored, key=lambda entry: entry[0]):
        by_partition.setdefault(located.profile_partition, []).append((place, located, first))
    spans = retention.profile_spans()
    return [
        _profile_call(partition, entries[start : start + EVENTS_PER_CALL_MAX], spans)
        for partition, entries in by_partition.items()
        for start in range(0, len(entries), EVENTS_PER_CALL_MAX)
    ]


def _profile_call(partition: Partition, entries: Sequence[tuple[int, Located, Stored]], spans: bytes) -> ScriptCall:
    keys = _Keys([partition.head])
    arguments = [spans]
    for _, located, first in entries:
        prepared = located.prepared
        event = prepared.append.event
        item = event.item_id.encode()
        # A retry comes later, but the event happened when its first sending arrived, if the caller gave no time.
        time_ms = first.arrival_ms if event.event_time_ms is None else prepared.append.event_time_ms
        fixed = _PROFILE_EVENT.pack(
            keys.number(partition.applied(prepared.digest)),
            keys.number(partition.profile(user_name(event.user_id))),
            int(event.event_type),
            first.arrival_ms,
            time_ms,
            event.quantity,
            taste_weight(event),
            first.sequence,
            len(item),
        )
        arguments.append(fixed + item)
    places = tuple(place for place, _, _ in entries)
    return ScriptCall(partition.slot, keys.command(_PROFILE_SHA, arguments), places)


def parse_append(answer: object, events: int) -> tuple[list[Stored], Undecoded]:
    """Raises StoreUnavailable for an answer that our scripts never give."""
    numbers = _numbers(answer, 4 * events + 4)
    try:
        stored = [
            Stored(AppendStatus(status), sequence, arrival_ms, deferred == 1)
            for status, sequence, arrival_ms, deferred in zip(*[iter(numbers[: 4 * events])] * 4, strict=True)
        ]
    except ValueError as error:
        raise StoreUnavailable("Redis answered a script with an unknown status") from error
    return stored, Undecoded(*numbers[4 * events :])


def parse_profile(answer: object) -> Undecoded:
    return Undecoded(*_numbers(answer, 5)[1:])


def _numbers(answer: object, count: int) -> list[int]:
    if not isinstance(answer, list) or len(answer) != count or set(map(type, answer)) != {int}:
        raise StoreUnavailable("Redis answered a script with something other than numbers")
    return answer


def read_keys(tenant: str, session_id: str, user_id: str) -> dict[Partition, tuple[bytes, ...]]:
    """What a shopper's state is read from besides the heads, by partition: session and profile, then the same of the
    user of that session, if there is one.
    """
    wanted: dict[Partition, tuple[bytes, ...]] = {}
    if session_id:
        of_session, name = partition_of(tenant, session_id), session_name(session_id)
        wanted[of_session] = (of_session.session(name), of_session.profile(name))
    if user_id:
        of_user, name = partition_of(tenant, user_id), user_name(user_id)
        wanted[of_user] = (*wanted.get(of_user, ()), of_user.session(name), of_user.profile(name))
    return wanted
