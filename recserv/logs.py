"""Log lines: one JSON object each, on standard error, written by a thread of their own.

    logger.info("...", extra={"fields": {...}}) -> formatted where it happens -> bounded queue -> writer thread

A full queue drops lines and counts them; it never makes a request wait. User ids appear only as a keyed hash.
"""

from __future__ import annotations

import hashlib
import logging
import logging.handlers
import os
import queue
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

import msgspec

_QUEUE_LINES_MAX = 10_000
_encode = msgspec.json.Encoder(enc_hook=str).encode


class JsonFormatter(logging.Formatter):
    """time (UTC), level, logger, message, then the record's `fields`, then the traceback if there is one. `always`:
    fields of every line.
    """

    def __init__(self, always: Mapping[str, str] | None = None):
        super().__init__()
        self._always = dict(always or {})

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line).decode()


class _DroppingQueueHandler(logging.handlers.QueueHandler):
    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class _Writer(logging.handlers.QueueListener):
    def enqueue_sentinel(self) -> None:
        # The base class does not wait, and would fail on a full queue.
        self.queue.put(None)  # type: ignore[attr-defined]


class UserTag:
    """Stands for user and session ids in the logs: the same id gives the same tag under the same salt."""

    def __init__(self, salt: str = ""):
        self._key = hashlib.blake2b(salt.encode()).digest() if salt else os.urandom(32)

    def __call__(self, user_id: str) -> str:
        """16 hexadecimal digits; the empty id gives the empty tag."""
        return hashlib.blake2b(user_id.encode(), key=self._key, digest_size=8).hexdigest() if user_id else ""


class Logs:
    """Owns the process's log output from its creation to `close`."""

    def __init__(self, level: str, stream: TextIO | None = None, always: Mapping[str, str] | None = None):
        lines: queue.Queue[Any] = queue.Queue(_QUEUE_LINES_MAX)
        self._handler = _DroppingQueueHandler(lines)
        self._handler.setFormatter(JsonFormatter(always))
        self._listener = _Writer(lines, logging.StreamHandler(stream or sys.stderr))
        self._root = logging.getLogger()
        self._level_before = self._root.level
        self._root.addHandler(self._handler)
        self._root.setLevel(level.upper())
        # asyncio's own debug lines at start-up are of no use to anybody here.
        logging.getLogger("asyncio").setLevel(logging.WARNING)
        self._listener.start()

    def dropped(self) -> int:
        """Lines lost to a full queue so far."""
        return self._handler.dropped

    def close(self) -> None:
        """Writes what is queued and lets go of the root logger."""
        self._root.removeHandler(self._handler)
        self._root.setLevel(self._level_before)
        self._listener.stop()
