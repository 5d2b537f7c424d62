"""Reads of the embedded store's file beside the writer: a thread and a connection of their own.

A write-ahead log lets a reader see the last commit while the next one is under way, so a profile that is not in memory
does not wait for the disk to sync.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from recserv.errors import StoreUnavailable
from recserv.stores.sqlite_file import is_breaking, open_reader

T = TypeVar("T")


class SqliteReader:
    """At most `waiting_max` reads under way or waiting; beyond that they are refused at once."""

    def __init__(self, path: Path, *, waiting_max: int):
        self._path = path
        self._waiting_max = waiting_max
        self._waiting = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="recserv-state-reader")
        self._connection: sqlite3.Connection | None = None

    async def run(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """`read(connection)` on the reader's thread. Raises StoreUnavailable."""
        if self._waiting >= self._waiting_max:
            raise StoreUnavailable(f"{self._waiting} reads of the state file are waiting already", retry_after_ms=100)
        self._waiting += 1
        try:
            # Without a shield a cancelled caller would make room while its read still occupies the thread.
            future = asyncio.get_running_loop().run_in_executor(self._executor, self._on_thread, read)
        except RuntimeError as error:
            self._waiting -= 1
            raise StoreUnavailable("the state store is closed") from error
        future.add_done_callback(self._done)
        try:
            return await asyncio.shield(future)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the state file could not be read ({error})") from error

    def _done(self, future: asyncio.Future[T]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            # Marks the error as seen: a caller that is gone cannot.
            future.exception()

    def _on_thread(self, read: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            self._connection = open_reader(self._path)
        try:
            return read(self._connection)
        except sqlite3.Error as error:
            if is_breaking(error):
                self._close()
            raise

    async def close(self) -> None:
        """Ends after the reads that were taken."""
        closed = asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown(wait=False)
        await asyncio.shield(closed)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
