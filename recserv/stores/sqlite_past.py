"""The past of users into the embedded store's file: profiles and histories of one call in one transaction.

    imported     beside `profiles`: key and marks; made by the first import, gone with the profile (a trigger)

On the writer's thread, like every write. A profile that changes gets a sequence of its own, of those that events get.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from recserv.stores.keys import profile_key
from recserv.stores.past import PastResult, fold
from recserv.stores.sqlite_log import SqliteLog, Transaction, encode_profile
from recserv.types import Profile, UserPast

_TABLE = "CREATE TABLE IF NOT EXISTS imported (key BLOB PRIMARY KEY, marks BLOB NOT NULL) WITHOUT ROWID"
_TRIGGER = """CREATE TRIGGER IF NOT EXISTS imported_gone AFTER DELETE ON profiles
    BEGIN DELETE FROM imported WHERE key = OLD.key; END"""
_PROFILE = (
    "INSERT INTO profiles (key, updated_ms, body) VALUES (?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET updated_ms = excluded.updated_ms, body = excluded.body"
)
_HISTORY = (
    "INSERT INTO imported (key, marks) VALUES (?, ?)"
    " ON CONFLICT (key) DO UPDATE SET marks = CAST(marks || excluded.marks AS BLOB)"
)


class WrittenPasts(msgspec.Struct, frozen=True):
    """`profiles`: those that changed; `sequence`: the newest of the log by now."""

    results: list[PastResult]
    profiles: dict[str, Profile]
    sequence: int


def write_pasts(
    log: SqliteLog, tenant: str, pasts: Sequence[UserPast], oldest_kept_ms: int, *, only_remember: bool
) -> WrittenPasts:
    """Raises sqlite3.Error, with nothing written."""
    connection = log.connection
    keys = [profile_key(tenant, "", past.user_id) for past in pasts]
    results: list[PastResult] = []
    profiles: dict[str, Profile] = {}
    sequence = log.sequence
    with Transaction(connection):
        connection.execute(_TABLE)
        connection.execute(_TRIGGER)
        before = log.load_profiles(keys)
        for key, past in zip(keys, pasts, strict=True):
            found = fold(_history(connection, key), past, oldest_kept_ms)
            results.append(found.result)
            if not found.marks:
                continue
            connection.execute(_HISTORY, (key.encode(), found.marks))
            if not only_remember:
                sequence += 1
                profile = profiles[key] = found.profile(before[key], sequence)
                connection.execute(_PROFILE, (key.encode(), profile.updated_ms, encode_profile(profile)))
        if sequence > log.sequence:
            _give_out(connection, sequence)
    for key, profile in profiles.items():
        log.profiles.put(key, profile)
    log.sequence = sequence
    return WrittenPasts(results, profiles, sequence)


def _history(connection: sqlite3.Connection, key: str) -> bytes:
    row = connection.execute("SELECT marks FROM imported WHERE key = ?", (key.encode(),)).fetchone()
    return bytes(row[0]) if row else b""


def _give_out(connection: sqlite3.Connection, sequence: int) -> None:
    """No event gets a sequence up to this one any more: an event of the profile must have a larger one."""
    if not connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'log'", (sequence,)).rowcount:
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('log', ?)", (sequence,))
