"""The writer's side of the embedded store's file: a group of events becomes one transaction.

    prepare -> look ids up -> decide -> profiles -> BEGIN, insert, COMMIT -> Written

Everything here runs on the thread that owns the connection. Statements take many rows at once: each step of a statement
lets go of the interpreter's lock and has to win it back from a busy event loop, so their number, not the rows', costs.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from recserv.resilience.lru import LruCache
from recserv.stores.base import AppendEvent, AppendResult, AppendStatus
from recserv.stores.decide import Decision, KnownId, LogBody, Prepared, decide, new_entries, prepare
from recserv.stores.keys import profile_key, timeline_key
from recserv.stores.known_keys import KnownKeys
from recserv.stores.memory import Accepted
from recserv.stores.sizes import kept_profile_bytes
from recserv.stores.sqlite_file import DamagedRow, cause_of, is_breaking
from recserv.stores.state import EMPTY_PROFILE, apply_to_profile, settle_anonymous, settles_anonymous
from recserv.types import Event, Profile

_ROWS_PER_STATEMENT = 128
_LOG_INSERT = "INSERT INTO log (sequence, arrival_ms, tenant, event_type, body) VALUES "
# An id that is free again may still have its old row.
_IDS_INSERT = "INSERT OR REPLACE INTO ids (sequence, arrival_ms, digest, body_hash) VALUES "
_PROFILES_UPSERT = "INSERT INTO profiles (key, updated_ms, body) VALUES "
_PROFILES_CONFLICT = " ON CONFLICT (key) DO UPDATE SET updated_ms = excluded.updated_ms, body = excluded.body"
_COUNTERS_UPSERT = "INSERT INTO counters (tenant, event_type, accepted, swept) VALUES "
_COUNTERS_CONFLICT = " ON CONFLICT (tenant, event_type) DO UPDATE SET accepted = accepted + excluded.accepted"

encode_profile = msgspec.msgpack.Encoder().encode
_decode_profile = msgspec.msgpack.Decoder(Profile).decode
_decode_body = msgspec.msgpack.Decoder(LogBody).decode

Row = tuple[object, ...]
T = TypeVar("T")


class Written(msgspec.Struct, frozen=True):
    """The outcome of a group. `accepted` and `profiles` are empty if nothing was committed."""

    results: list[AppendResult]
    accepted: list[Accepted]
    profiles: dict[str, Profile]
    sequence: int
    error: str = ""
    cause: str = ""
    broken: bool = False


class LoggedEvent(msgspec.Struct, frozen=True):
    """A row of the log."""

    tenant: str
    append: AppendEvent
    sequence: int


class SqliteLog:
    """Writes groups. Knows the last sequence and the profiles that it wrote lately; not safe to share."""

    def __init__(
        self, connection: sqlite3.Connection, *, retention_ms: int, profiles_max: int, profile_bytes_max: int | None
    ):
        self.connection = connection
        self._retention_ms = retention_ms
        self._profiles_max, self._profile_bytes_max = profiles_max, profile_bytes_max
        self.profiles = self._new_cache()
        self.sequence = last_sequence(connection)

    def _new_cache(self) -> LruCache[str, Profile]:
        return LruCache(self._profiles_max, self._profile_bytes_max, kept_profile_bytes)

    def write(self, events: Sequence[tuple[str, AppendEvent]]) -> Written:
        """One result per event. Never raises for SQLite's errors: what depended on the commit is UNAVAILABLE."""
        group = [prepare(tenant, append) for tenant, append in events]
        decisions: list[Decision] = []
        try:
            known = self._known_ids([entry.digest for entry in group if not isinstance(entry, str)])
            decisions = decide(group, known, self.sequence, self._retention_ms)
            new = new_entries(group, decisions)
            profiles = self._profiles_after(new) if new else {}
            if new:
                self._commit(new, profiles)
        except sqlite3.Error as error:
            return self._failed(len(events), decisions, error)
        for key, profile in profiles.items():
            self.profiles.put(key, profile)
        accepted = [Accepted(entry.tenant, entry.timeline, entry.append, sequence) for entry, sequence in new]
        written = Written([_result(decision) for decision in decisions], accepted, profiles, self.sequence + len(new))
        # Last: until then `renew` would find these events in the file and tell of them.
        self.sequence += len(new)
        return written

    def renew(self, connection: sqlite3.Connection) -> Written:
        """Goes on over a new connection to the same file, with nothing assumed about what it holds.

        What it gives are the events that nobody was told of: a commit may fail with an error after its rows became
        durable, and who sends them again will be told that they are there. Raises sqlite3.Error, with nothing changed.
        """
        found = list(select_log(connection, "sequence > ? ORDER BY sequence", (self.sequence,)))
        keys = dict.fromkeys(key for logged in found for key in _profile_keys(logged.tenant, logged.append.event))
        profiles = select_profiles(connection, list(keys))
        sequence = max(self.sequence, last_sequence(connection))
        self.connection, self.sequence = connection, sequence
        self.profiles = self._new_cache()
        return Written([], [_accepted(logged) for logged in found], profiles, sequence)

    def _known_ids(self, digests: Sequence[bytes]) -> dict[bytes, KnownId]:
        known = {}
        for chunk in _padded_chunks(digests):
            marks = ",".join("?" * len(chunk))
            sql = f"SELECT digest, body_hash, sequence, arrival_ms FROM ids WHERE digest IN ({marks})"
            for digest, body_hash, sequence, arrival_ms in self.connection.execute(sql, chunk).fetchall():
                known[digest] = KnownId(body_hash, sequence, arrival_ms)
        return known

    def _profiles_after(self, new: Sequence[tuple[Prepared, int]]) -> dict[str, Profile]:
        """Every profile that the events change, as it is after them."""
        wanted = dict.fromkeys(key for entry, _ in new for key in _profile_keys(entry.tenant, entry.append.event))
        before = self.load_profiles(wanted)
        after: dict[str, Profile] = {}
        for entry, sequence in new:
            own, *anonymous = _profile_keys(entry.tenant, entry.append.event)
            after[own] = apply_to_profile(after.get(own) or before[own], entry.append, sequence)
            for key in anonymous:
                held = after.get(key) or before[key]
                settled = settle_anonymous(held, entry.append, sequence)
                if settled is not held:
                    after[key] = settled
        return after

    def load_profiles(self, keys: Iterable[str]) -> dict[str, Profile]:
        """Of all keys, an empty profile for one that has no row."""
        profiles = {}
        missing = []
        for key in keys:
            cached = self.profiles.get(key)
            if cached is None:
                missing.append(key)
            else:
                profiles[key] = cached
        loaded = select_profiles(self.connection, missing)
        for key in missing:
            profiles[key] = loaded.get(key, EMPTY_PROFILE)
        return profiles

    def _commit(self, new: Sequence[tuple[Prepared, int]], profiles: dict[str, Profile]) -> None:
        log_rows: list[Row] = []
        id_rows: list[Row] = []
        counts: Counter[tuple[str, int]] = Counter()
        for entry, sequence in new:
            append = entry.append
            event_type = int(append.event.event_type)
            log_rows.append((sequence, append.arrival_ms, entry.tenant, event_type, entry.body))
            id_rows.append((sequence, append.arrival_ms, entry.digest, append.body_hash))
            counts[entry.tenant, event_type] += 1
        profile_rows = [
            (key.encode(), profile.updated_ms, encode_profile(profile)) for key, profile in profiles.items()
        ]
        counter_rows = [(tenant, event_type, count, 0) for (tenant, event_type), count in counts.items()]
        with Transaction(self.connection):
            _insert(self.connection, _LOG_INSERT, log_rows)
            _insert(self.connection, _IDS_INSERT, id_rows)
            _insert(self.connection, _PROFILES_UPSERT, profile_rows, _PROFILES_CONFLICT)
            _insert(self.connection, _COUNTERS_UPSERT, counter_rows, _COUNTERS_CONFLICT)

    def _failed(self, count: int, decisions: list[Decision], error: sqlite3.Error) -> Written:
        """What had been committed before this group is still answered; the rest is not durable."""
        text = f"the state file could not be written ({getattr(error, 'sqlite_errorname', type(error).__name__)})"
        lost = AppendResult(AppendStatus.UNAVAILABLE, 0, text)
        results = [_result(decision) if decision.sequence <= self.sequence else lost for decision in decisions]
        results = results or [lost] * count
        return Written(results, [], {}, self.sequence, str(error), cause_of(error), is_breaking(error))


class Transaction:
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK of whatever SQLite has not rolled back itself."""

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def last_sequence(connection: sqlite3.Connection) -> int:
    """The newest sequence ever given out, whether its row was swept or not."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
    return int(row[0]) if row else 0


def replay(connection: sqlite3.Connection, arrived_after_ms: int) -> Iterator[Accepted]:
    """The events that arrived later than that, in the order of the log."""
    for logged in select_log(connection, "arrival_ms > ? ORDER BY sequence", (arrived_after_ms,)):
        yield _accepted(logged)


def select_log(connection: sqlite3.Connection, where: str, parameters: Row) -> Iterator[LoggedEvent]:
    """Raises sqlite3.Error, DamagedRow among them."""
    sql = f"SELECT tenant, body, arrival_ms, sequence FROM log WHERE {where}"
    for tenant, body, arrival_ms, sequence in connection.execute(sql, parameters):
        if not isinstance(tenant, str) or not isinstance(arrival_ms, int):
            raise DamagedRow(f"event {sequence} of the log names no tenant or no time")
        held = _decoded(_decode_body, body, "log")
        yield LoggedEvent(tenant, AppendEvent(held.event, held.body_hash, arrival_ms, held.event_time_ms), sequence)


def _decoded(decode: Callable[[bytes], T], stored: bytes, table: str) -> T:
    try:
        return decode(stored)
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:
        raise DamagedRow(f"a row of {table} cannot be decoded: {error}") from error


def known_profiles(connection: sqlite3.Connection, bytes_max: int) -> KnownKeys:
    """The keys of all profiles in the file, in so much memory at most. Raises sqlite3.Error, DamagedRow among them."""
    [[count]] = connection.execute("SELECT count(*) FROM profiles")
    known = KnownKeys(count, bytes_max)
    for [key] in connection.execute("SELECT key FROM profiles"):
        known.add(_decoded(bytes.decode, key, "profiles"))
    return known


def select_profiles(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Profile]:
    """Only those that have a row. Raises sqlite3.Error, DamagedRow among them."""
    profiles = {}
    for chunk in _padded_chunks([key.encode() for key in keys]):
        marks = ",".join("?" * len(chunk))
        rows = connection.execute(f"SELECT key, body FROM profiles WHERE key IN ({marks})", chunk).fetchall()
        for key, body in rows:
            profiles[_decoded(bytes.decode, key, "profiles")] = _decoded(_decode_profile, body, "profiles")
    return profiles


def _accepted(logged: LoggedEvent) -> Accepted:
    event = logged.append.event
    timeline = timeline_key(logged.tenant, event.session_id, event.user_id)
    return Accepted(logged.tenant, timeline, logged.append, logged.sequence)


def _profile_keys(tenant: str, event: Event) -> tuple[str, ...]:
    """The event's own profile first, then the anonymous one that it settles, if any."""
    own = profile_key(tenant, event.session_id, event.user_id)
    if settles_anonymous(event):
        return (own, profile_key(tenant, event.session_id, ""))
    return (own,)


def _result(decision: Decision) -> AppendResult:
    if decision.status == AppendStatus.CONFLICT:
        return AppendResult(AppendStatus.CONFLICT, 0, "the event id was used before with another body")
    return AppendResult(decision.status, decision.sequence, decision.error)


def _insert(connection: sqlite3.Connection, insert: str, rows: Sequence[Row], conflict: str = "") -> None:
    """Many rows a statement, their number a power of two so that few statements need compiling."""
    start = 0
    while start < len(rows):
        size = min(1 << ((len(rows) - start).bit_length() - 1), _ROWS_PER_STATEMENT)
        chunk = rows[start : start + size]
        values = ",".join([f"({','.join('?' * len(chunk[0]))})"] * size)
        connection.execute(insert + values + conflict, [value for row in chunk for value in row])
        start += size


def _padded_chunks(values: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Chunks filled up to a power of two with their last value, which an IN list does not mind."""
    for start in range(0, len(values), _ROWS_PER_STATEMENT):
        chunk = list(values[start : start + _ROWS_PER_STATEMENT])
        yield chunk + chunk[-1:] * ((1 << (len(chunk) - 1).bit_length()) - len(chunk))
