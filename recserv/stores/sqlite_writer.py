"""The thread that owns the embedded store's connection.

    queue -> take what is there, up to a bound -> SqliteLog.write, one transaction -> one call into the event loop

Groups form by themselves: while one is synced to the disk, the next one queues up. Other work on the connection (the
sweep) takes its turn in the same queue.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

import msgspec

from recserv.resilience.deadline import MonotonicClock
from recserv.stores.base import AppendEvent, AppendResult, AppendStatus
from recserv.stores.sqlite_file import cause_of, is_breaking, open_writer, reopen_writer
from recserv.stores.sqlite_log import SqliteLog, Written

_log = logging.getLogger(__name__)

WorkDone = Callable[[object, Exception | None], None]


class FileOptions(msgspec.Struct, frozen=True, kw_only=True):
    synchronous: str = "FULL"
    file_bytes_max: int | None = None
    retention_ms: int
    profiles_max: int
    profile_bytes_max: int | None = None
    group_events_max: int


class AppendRequest:
    """One call of `append`, never split over two groups. `reply` is the caller's own, untouched here."""

    __slots__ = ("events", "reply", "tenant")

    def __init__(self, tenant: str, events: Sequence[AppendEvent], reply: asyncio.Future[list[AppendResult]]):
        self.tenant = tenant
        self.events = events
        self.reply = reply


class Group(msgspec.Struct, frozen=True):
    """What became of the requests of one transaction; `seconds` is its span. Without requests: what was found."""

    requests: list[AppendRequest]
    written: Written
    seconds: float


class _Work:
    __slots__ = ("on_done", "run")

    def __init__(self, run: Callable[[], object], on_done: WorkDone):
        self.run = run
        self.on_done = on_done


class _Stop:
    pass


class SqliteWriter:
    """`on_group` is called on the writer's thread, once per group, in the order of the log."""

    def __init__(self, path: Path, options: FileOptions, on_group: Callable[[Group], None], monotonic: MonotonicClock):
        self._path = path
        self._options = options
        self._on_group = on_group
        self._monotonic = monotonic
        self._queue: SimpleQueue[AppendRequest | _Work | _Stop] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recserv-state-writer", daemon=True)
        self._log: SqliteLog | None = None
        self._broken = False

    def start(self) -> None:
        self._thread.start()

    def append(self, request: AppendRequest) -> None:
        self._queue.put(request)

    def call(self, run: Callable[[], object], on_done: WorkDone) -> None:
        """Runs something on the writer's thread between two groups; `on_done(result, error)` is called there too."""
        self._queue.put(_Work(run, on_done))

    def stop(self) -> None:
        """Takes nothing after what is queued; the thread ends, and the file is closed, once that is done."""
        self._queue.put(_Stop())

    def join(self) -> None:
        self._thread.join()

    def open_log(self) -> SqliteLog:
        """Opens the file. On the writer's thread only. Raises as `open_writer` does."""
        options = self._options
        connection = open_writer(self._path, synchronous=options.synchronous, file_bytes_max=options.file_bytes_max)
        try:
            self._log = SqliteLog(
                connection,
                retention_ms=options.retention_ms,
                profiles_max=options.profiles_max,
                profile_bytes_max=options.profile_bytes_max,
            )
        except BaseException:
            connection.close()
            raise
        return self._log

    def ready_log(self) -> SqliteLog:
        """The log, over a new connection if the last one broke. On the writer's thread only. Raises sqlite3.Error."""
        if self._log is None:
            raise sqlite3.OperationalError("the state file is not open")
        if self._broken:
            self._reopen(self._log)
            self._broken = False
        return self._log

    def _reopen(self, log: SqliteLog) -> None:
        log.connection.close()
        options = self._options
        connection = reopen_writer(self._path, synchronous=options.synchronous, file_bytes_max=options.file_bytes_max)
        try:
            found = log.renew(connection)
        except BaseException:
            connection.close()
            raise
        if found.accepted:
            # Before the group that may find their ids.
            _log.warning("%d events whose commit had failed are in the state file all the same", len(found.accepted))
            self._on_group(Group([], found, 0.0))

    def _run(self) -> None:
        while True:
            entry: AppendRequest | _Work | _Stop | None = self._queue.get()
            if isinstance(entry, AppendRequest):
                requests, entry = self._take_group(entry)
                self._write(requests)
            if isinstance(entry, _Work):
                self._work(entry)
            elif isinstance(entry, _Stop):
                break
        if self._log is not None:
            self._log.connection.close()

    def _take_group(self, first: AppendRequest) -> tuple[list[AppendRequest], _Work | _Stop | None]:
        """What is queued now, up to the bound, and the other work that ended the group, if any did."""
        requests = [first]
        count = len(first.events)
        while count < self._options.group_events_max:
            try:
                entry = self._queue.get_nowait()
            except Empty:
                break
            if not isinstance(entry, AppendRequest):
                return requests, entry
            requests.append(entry)
            count += len(entry.events)
        return requests, None

    def _write(self, requests: list[AppendRequest]) -> None:
        events = [(request.tenant, append) for request in requests for append in request.events]
        started_s = self._monotonic()
        try:
            written = self.ready_log().write(events)
        except sqlite3.Error as error:
            written = _lost(len(events), f"the state file could not be opened again ({error})", cause_of(error))
        except Exception as error:
            # The thread must outlive a fault of ours, or every later event would wait for ever.
            _log.exception("the state store's writer failed on a group of %d events", len(events))
            # Where it happened nobody knows: perhaps behind the commit.
            written = _lost(len(events), f"the state store failed ({type(error).__name__})", "error", broken=True)
        self._broken = self._broken or written.broken
        self._on_group(Group(requests, written, self._monotonic() - started_s))

    def _work(self, work: _Work) -> None:
        try:
            result = work.run()
        except Exception as error:
            if isinstance(error, sqlite3.Error) and is_breaking(error):
                self._broken = True
            work.on_done(None, error)
        else:
            work.on_done(result, None)


def _lost(count: int, text: str, cause: str, *, broken: bool = False) -> Written:
    lost = AppendResult(AppendStatus.UNAVAILABLE, 0, text)
    return Written([lost] * count, [], {}, 0, text, cause, broken)
