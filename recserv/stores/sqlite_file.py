"""The embedded store's file: its lock, its settings, its schema.

Two files on the disk, besides those that SQLite keeps while it is open, and five tables:

    PATH         SQLite, WAL; `application_id` says it is ours, `user_version` which schema
    PATH.lock    held with flock while a store has the file open; it stays behind, empty of meaning, unless a start
                 made it and failed: such a start leaves none of these files

    log          the events, whole, in the order of acknowledgement; AUTOINCREMENT, so no sequence is ever used twice
    ids          digest of (timeline, event id) -> hash of the body; its own table because it is kept for another time
    profiles     cart, purchases and taste of users and anonymous sessions
    counters     events accepted and swept per tenant and type: accepted - swept is what the log holds
    token_key    the key of this state's consistency tokens, one row; earlier releases neither make nor mind it

and a sixth, `imported`, once there was an import (sqlite_past.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from pathlib import Path

from recserv.errors import StoreUnavailable, UsageError
from recserv.stores.token_key import TOKEN_KEY_BYTES, new_token_key

_log = logging.getLogger(__name__)

APPLICATION_ID = 0x72637376
SCHEMA_VERSION = 1

_SCHEMA = (
    """CREATE TABLE log (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        arrival_ms INTEGER NOT NULL,
        tenant TEXT NOT NULL,
        event_type INTEGER NOT NULL,
        body BLOB NOT NULL
    )""",
    "CREATE INDEX log_arrival ON log (arrival_ms)",
    """CREATE TABLE ids (
        sequence INTEGER PRIMARY KEY,
        arrival_ms INTEGER NOT NULL,
        digest BLOB NOT NULL UNIQUE,
        body_hash BLOB NOT NULL
    )""",
    "CREATE INDEX ids_arrival ON ids (arrival_ms)",
    """CREATE TABLE profiles (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        updated_ms INTEGER NOT NULL,
        body BLOB NOT NULL
    )""",
    """CREATE TABLE counters (
        tenant TEXT NOT NULL,
        event_type INTEGER NOT NULL,
        accepted INTEGER NOT NULL,
        swept INTEGER NOT NULL,
        PRIMARY KEY (tenant, event_type)
    ) WITHOUT ROWID""",
)

_TOKEN_KEY_TABLE = "CREATE TABLE IF NOT EXISTS token_key (key BLOB NOT NULL)"
_WAL_BYTES_KEPT = 64 * 1024 * 1024
_CACHE_KIB = 16 * 1024
_BUSY_TIMEOUT_S = 1.0
_BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite adds to the path for files of its own."""


class DamagedRow(sqlite3.DatabaseError):
    """SQLite found nothing wrong with the row, yet it is not what we wrote."""


class FileInUse(UsageError):
    """`holder`: the process that has the file, "" if it does not say."""

    def __init__(self, path: Path, holder: str):
        self.holder = holder
        by = f" (process {holder})" if holder else ""
        super().__init__(
            f"state file {path} is in use by another server{by}: an embedded store serves one process; "
            "give each server a file of its own, or use redis for more than one"
        )


class FileLock:
    """At most one store has a file open, in this process or any other. Knows what was there before it."""

    def __init__(self, path: Path):
        self._path = path
        self._fd: int | None = None
        self._new: list[str] = []

    def acquire(self) -> None:
        """Raises UsageError if another store holds it or it cannot be created."""
        place = os.path.realpath(self._path)
        lock_path = f"{place}.lock"
        self._new = [] if os.path.lexists(lock_path) else [lock_path]
        while True:
            fd = self._open(lock_path)
            self._lock(fd)
            if _is_at(fd, lock_path):
                break
            # A start that failed has taken it away between the two calls: what is locked is nobody's.
            os.close(fd)
        self._fd = fd
        if not os.path.lexists(place):
            self._new = [place, *[place + suffix for suffix in _BESIDE], *self._new]
        # The process id is a courtesy to whoever is refused; on a full disk the lock holds without it.
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def _open(self, lock_path: str) -> int:
        try:
            return os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"state file {self._path}: cannot create its lock file: {error.strerror}") from error

    def _lock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise FileInUse(self._path, holder if holder.isdigit() else "") from error

    def release(self, *, undo: bool = False) -> None:
        """`undo`: removes what was not there before, for a start that failed."""
        if self._fd is None:
            return
        if undo:
            # While it is held; the lock is the last of them.
            for path in self._new:
                with contextlib.suppress(OSError):
                    os.unlink(path)
        os.close(self._fd)
        self._fd = None


def _is_at(fd: int, path: str) -> bool:
    held = os.fstat(fd)
    try:
        there = os.stat(path)
    except OSError:
        return False
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)


def open_writer(path: Path, *, synchronous: str, file_bytes_max: int | None) -> sqlite3.Connection:
    """The one connection that writes, in autocommit mode. Creates the file and its schema if there is none.

    Raises UsageError if the file can never serve, StoreUnavailable if it cannot now (a full disk, an I/O error).
    """
    try:
        connection = _connect(path, "rwc")
    except sqlite3.Error as error:
        raise UsageError(f"state file {path}: cannot be opened: {error}") from error
    try:
        _check_schema(connection, path)
        _configure(connection, path, synchronous, file_bytes_max)
        return connection
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise at_start(path, error) from error
        raise


def reopen_writer(path: Path, *, synchronous: str, file_bytes_max: int | None) -> sqlite3.Connection:
    """After an I/O error: the same file again, never a new one. Raises sqlite3.Error."""
    connection = _connect(path, "rw")
    try:
        _configure(connection, path, synchronous, file_bytes_max)
        return connection
    except BaseException:
        connection.close()
        raise


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises sqlite3.Error."""
    connection = _connect(path, "rw")
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        return connection
    except BaseException:
        connection.close()
        raise


def token_key(connection: sqlite3.Connection) -> bytes:
    """The key of this state's consistency tokens; made if it has none. Raises sqlite3.Error, DamagedRow among them."""
    there = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'token_key'").fetchone()
    row = connection.execute("SELECT key FROM token_key").fetchone() if there else None
    if row is not None:
        [key] = row
        if not isinstance(key, bytes) or len(key) != TOKEN_KEY_BYTES:
            raise DamagedRow("the key of consistency tokens is not one")
        return key
    key = new_token_key()
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_TOKEN_KEY_TABLE)
        connection.execute("INSERT INTO token_key (key) VALUES (?)", (key,))
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if cause_of(error) != "disk_full":
            raise
        # What the file holds can be served all the same.
        _log.warning("no room for the key of consistency tokens: until the next start a passing one serves")
    return key


def cause_of(error: sqlite3.Error) -> str:
    """One of a few words: disk_full, io_error, busy, error."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return "error"
    names = {sqlite3.SQLITE_FULL: "disk_full", sqlite3.SQLITE_IOERR: "io_error", sqlite3.SQLITE_BUSY: "busy"}
    # The low byte is the primary code; the rest says where it happened.
    return names.get(code & 0xFF, "error")


def is_breaking(error: sqlite3.Error) -> bool:
    """Whether a new connection is the safer start. A full disk leaves the one that met it as it was."""
    return cause_of(error) not in ("disk_full", "busy")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)


def _pragma(connection: sqlite3.Connection, name: str) -> object:
    row = connection.execute(f"PRAGMA {name}").fetchone()
    return row[0] if row else None


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    application_id, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if _pragma(connection, "page_count") == 0 or (application_id == 0 and _is_empty(connection)):
        _create_schema(connection)
    elif application_id != APPLICATION_ID:
        raise UsageError(f"state file {path}: is an SQLite file of another application")
    elif version != SCHEMA_VERSION:
        raise UsageError(
            f"state file {path}: has schema version {version}, this recserv knows version {SCHEMA_VERSION} only; "
            "use the release that wrote it, or start with a new file"
        )


def _is_empty(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,))


def _create_schema(connection: sqlite3.Connection) -> None:
    # Only before the first table; without it a file never shrinks.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _configure(connection: sqlite3.Connection, path: Path, synchronous: str, file_bytes_max: int | None) -> None:
    if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise UsageError(f"state file {path}: its file system does not support SQLite's write-ahead log")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES_KEPT}")
    # Overwrites what was deleted where that costs no extra write.
    connection.execute("PRAGMA secure_delete = FAST")
    if file_bytes_max is not None:
        page_bytes = _pragma(connection, "page_size")
        assert isinstance(page_bytes, int)
        connection.execute(f"PRAGMA max_page_count = {max(file_bytes_max // page_bytes, 1)}")


def at_start(path: Path, error: sqlite3.Error) -> UsageError | StoreUnavailable:
    """What an error of SQLite means while the file is opened: time heals a full disk, and no damage."""
    if cause_of(error) in ("disk_full", "io_error"):
        return StoreUnavailable(f"state file {path}: {error}")
    return UsageError(
        f"state file {path}: is damaged or no state file: {error}. Put a backup in its place, try `sqlite3 {path}"
        " .recover`, or move it away, with its -wal and -shm, to begin with an empty state"
    )
