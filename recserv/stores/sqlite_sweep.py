"""What keeps the embedded store's file small: old ids, log rows and profiles go, and their pages go back to the disk.

A step removes a bounded number of rows in one short transaction, so that events never wait long behind it. Log rows
leave with their count entered in `counters.swept`, so that the counters agree with the log at any moment.
"""

from __future__ import annotations

import sqlite3

import msgspec

from recserv.stores.base import EVENT_AHEAD_MS_MAX
from recserv.stores.keys import is_anonymous
from recserv.stores.sqlite_log import Transaction
from recserv.types import SESSION_TTL_MS, EventType

_FREE_PAGES_KEPT = 256
_PAGES_RETURNED_PER_STEP = 2000


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """For how long what is kept. The log may go by number too, but never before the sessions built from it."""

    ids_ms: int
    log_ms: int
    log_rows_max: int
    profile_ms: int
    anonymous_profile_ms: int
    rows_per_step: int


class Swept(msgspec.Struct, frozen=True):
    """What one step removed. `more`: another step would find more."""

    ids: int = 0
    log_rows: int = 0
    profile_keys: tuple[str, ...] = ()
    more: bool = False


class CounterRow(msgspec.Struct, frozen=True):
    """Events of one tenant and type: accepted ever, swept out of the log since, and found in the log now."""

    tenant: str
    event_type: EventType
    accepted: int
    swept: int
    logged: int


class Sweeper:
    """Walks the profiles in rounds, a stretch a step: they have no index by age, which every write would pay for."""

    def __init__(self, retention: Retention):
        self._retention = retention
        self._profile_cursor = 0

    def step(self, connection: sqlite3.Connection, now_ms: int, *, whole_round: bool) -> Swept:
        """`whole_round`: says `more` until every profile was looked at. Raises sqlite3.Error, with nothing removed."""
        retention = self._retention
        limit = retention.rows_per_step
        with Transaction(connection):
            ids = connection.execute(
                "DELETE FROM ids WHERE sequence IN (SELECT sequence FROM ids WHERE arrival_ms < ? LIMIT ?)",
                (now_ms - retention.ids_ms - EVENT_AHEAD_MS_MAX, limit),
            ).rowcount
            log_rows, log_more = self._sweep_log(connection, now_ms)
            gone, next_cursor = self._sweep_profiles(connection, now_ms)
        self._profile_cursor = next_cursor
        returned = _return_pages(connection)
        more = ids == limit or log_more or returned or (whole_round and next_cursor > 0)
        return Swept(ids, log_rows, gone, more)

    def _sweep_log(self, connection: sqlite3.Connection, now_ms: int) -> tuple[int, bool]:
        retention = self._retention
        limit = retention.rows_per_step
        rows = connection.execute("SELECT coalesce(sum(accepted - swept), 0) FROM counters").fetchone()[0]
        oldest_first = "SELECT sequence FROM log WHERE arrival_ms < ? ORDER BY arrival_ms, sequence LIMIT ?"
        removed = _remove_log_rows(connection, oldest_first, now_ms - retention.log_ms, limit)
        excess = min(rows - removed - retention.log_rows_max, limit - removed)
        if excess > 0:
            removed += _remove_log_rows(connection, oldest_first, now_ms - SESSION_TTL_MS, excess)
        return removed, removed == limit

    def _sweep_profiles(self, connection: sqlite3.Connection, now_ms: int) -> tuple[tuple[str, ...], int]:
        """The keys removed, and where the next step goes on; 0 after the last profile."""
        rows = connection.execute(
            "SELECT id, key, updated_ms FROM profiles WHERE id > ? ORDER BY id LIMIT ?",
            (self._profile_cursor, self._retention.rows_per_step),
        ).fetchall()
        named = [(row_id, key.decode(), updated_ms) for row_id, key, updated_ms in rows]
        gone = [(row_id, key) for row_id, key, updated_ms in named if self._is_stale(key, updated_ms, now_ms)]
        connection.executemany("DELETE FROM profiles WHERE id = ?", [(row_id,) for row_id, _ in gone])
        next_cursor = rows[-1][0] if len(rows) == self._retention.rows_per_step else 0
        return tuple(key for _, key in gone), next_cursor

    def _is_stale(self, key: str, updated_ms: int, now_ms: int) -> bool:
        kept_ms = self._retention.anonymous_profile_ms if is_anonymous(key) else self._retention.profile_ms
        return updated_ms < now_ms - kept_ms


def read_counters(connection: sqlite3.Connection) -> list[CounterRow]:
    """Counters beside a count of the log, as of one moment."""
    connection.execute("BEGIN")
    try:
        rows = connection.execute(
            """SELECT tenant, event_type, sum(accepted), sum(swept), sum(logged) FROM (
                   SELECT tenant, event_type, accepted, swept, 0 AS logged FROM counters
                   UNION ALL
                   SELECT tenant, event_type, 0, 0, count(*) FROM log GROUP BY tenant, event_type
               ) GROUP BY tenant, event_type ORDER BY tenant, event_type"""
        ).fetchall()
    finally:
        connection.execute("COMMIT")
    return [CounterRow(tenant, EventType(kind), *counts) for tenant, kind, *counts in rows]


def _remove_log_rows(connection: sqlite3.Connection, selection: str, before_ms: int, limit: int) -> int:
    parameters = (before_ms, limit)
    counts = connection.execute(
        f"SELECT tenant, event_type, count(*) FROM log WHERE sequence IN ({selection}) GROUP BY tenant, event_type",
        parameters,
    ).fetchall()
    if not counts:
        return 0
    connection.executemany(
        "UPDATE counters SET swept = swept + ? WHERE tenant = ? AND event_type = ?",
        [(count, tenant, event_type) for tenant, event_type, count in counts],
    )
    connection.execute(f"DELETE FROM log WHERE sequence IN ({selection})", parameters)
    return sum(count for _, _, count in counts)


def _return_pages(connection: sqlite3.Connection) -> bool:
    """Shrinks the file, but for some pages that the next events take. True if pages are left to return."""
    free = connection.execute("PRAGMA freelist_count").fetchone()[0] - _FREE_PAGES_KEPT
    if free <= 0:
        return False
    # The pragma returns a page with each of its rows.
    connection.execute(f"PRAGMA incremental_vacuum({min(free, _PAGES_RETURNED_PER_STEP)})").fetchall()
    return bool(free > _PAGES_RETURNED_PER_STEP)
