"""API keys, and switching to another one while the server runs.

    env:NAME, file:PATH -> KeyRing -> the key of the next call
    401 -> that key is set aside, files are read again -> the next key

A key file holds one key a line; empty lines and lines that begin with # are skipped. It is also read again when it
changes, so that a rotation takes effect before the old key is refused. A key set aside is tried again once its file
changes or after a minute.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from recserv.config_llm import clean_keys
from recserv.resilience.deadline import MonotonicClock

logger = logging.getLogger("recserv.llm")

FILE_PREFIX = "file:"
ENV_PREFIX = "env:"
ASIDE_S = 60.0
LOOK_AGAIN_S = 1.0
KEYS_MAX = 32
KEY_FILE_BYTES_MAX = 64 * 1024


class KeyRing:
    """Keys in the order of their sources. Empty if there are none: then calls carry no key."""

    def __init__(
        self, sources: Sequence[str], environ: Mapping[str, str] = os.environ, *, clock: MonotonicClock = time.monotonic
    ):
        self._sources, self._environ, self._clock = tuple(sources), environ, clock
        self._aside: dict[str, float] = {}
        self._stamps: dict[str, tuple[int, int, int]] = {}
        self._looked_s = clock()
        self._keys: list[str] = []
        self._read()

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def wanted(self) -> bool:
        """Whether calls need a key at all."""
        return bool(self._sources)

    def current(self) -> str:
        """The first key that is not set aside; empty if all are."""
        now_s = self._clock()
        if now_s - self._looked_s < LOOK_AGAIN_S and (key := self._usable(now_s)):
            return key
        self._looked_s = now_s
        if self._changed():
            self._read()
        return self._usable(now_s)

    def _usable(self, now_s: float) -> str:
        return next((key for key in self._keys if self._aside.get(key, 0.0) <= now_s), "")

    def refused(self, key: str) -> None:
        """The provider refused `key`: sets it aside, and reads the files again even if they look unchanged."""
        self._read()
        self._aside = {known: until for known, until in self._aside.items() if known in self._keys}
        self._aside[key] = self._clock() + ASIDE_S
        logger.warning("a key was refused", extra={"fields": {"place": self._place(key), "keys": len(self._keys)}})

    def _place(self, key: str) -> int:
        """For the log, which never shows a key: its number, or 0 if it no longer exists."""
        return self._keys.index(key) + 1 if key in self._keys else 0

    def _changed(self) -> bool:
        return any(_stamp(_path(source)) != self._stamps.get(source) for source in self._sources if _is_file(source))

    def _read(self) -> None:
        keys: dict[str, None] = {}
        for source in self._sources:
            if _is_file(source):
                stamp = _stamp(_path(source))
                if stamp != self._stamps.get(source):
                    # The change may have restored a key that was set aside.
                    self._aside.clear()
                self._stamps[source] = stamp
            keys.update(dict.fromkeys(read_source(source, self._environ)))
        if keys:
            self._keys = list(keys)[:KEYS_MAX]
        elif self._sources:
            logger.error(
                "no key can be read; the previous ones stay in use", extra={"fields": {"keys": len(self._keys)}}
            )


def read_source(source: str, environ: Mapping[str, str]) -> list[str]:
    """The keys of one source; none if it cannot be read. Text that cannot be a header value is left out."""
    if _is_file(source):
        try:
            with _path(source).open("rb") as file:
                text = file.read(KEY_FILE_BYTES_MAX).decode("utf-8", "replace")
        except OSError as error:
            logger.error("a key file cannot be read", extra={"fields": {"cause": error.strerror or str(error)}})
            return []
    else:
        text = environ.get(source.removeprefix(ENV_PREFIX), "")
    keys, unclean = clean_keys(text)
    if unclean:
        logger.error(
            "a key that cannot be a header value is ignored", extra={"fields": {"lines": unclean, "keys": len(keys)}}
        )
    return keys


def _is_file(source: str) -> bool:
    return source.startswith(FILE_PREFIX)


def _path(source: str) -> Path:
    return Path(source[len(FILE_PREFIX) :])


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
