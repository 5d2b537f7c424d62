"""When to load another model: on SIGHUP, or when the model directory was replaced.

    manifest and seal, looked at every so often -> identity -> Sightings -> reload
    SIGHUP                                      -------------------------> reload

A directory is replaced by renaming another one to its name, or is a symbolic link that is switched; in between nothing
of that name may exist. So an identity counts once it was seen twice in a row, and each counts once: a model that was
refused is not tried again until something changes or SIGHUP asks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from recserv.model.manifest import MANIFEST_FILE, SEAL_FILE

logger = logging.getLogger("recserv.app")

Identity = tuple[tuple[int, int, int, int], ...]
"""Device, inode, size and time of change of each file that names a model."""


def identity_of(model: Path | str) -> Identity | None:
    """What the model directory is now; None while it is not there or not whole."""
    found = []
    for name in (MANIFEST_FILE, SEAL_FILE):
        try:
            status = os.stat(Path(model) / name)
        except OSError:
            return None
        found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


class Sightings:
    """Decides from what is seen of the model directory whether there is something new to load."""

    def __init__(self, loaded: Identity | None):
        self._tried = loaded
        self._last: Identity | None = None

    def see(self, identity: Identity | None) -> bool:
        """True once for each identity that is new and was seen twice in a row."""
        settled = identity is not None and identity == self._last
        self._last = identity
        if not settled or identity == self._tried:
            return False
        self._tried = identity
        return True

    def tried(self, identity: Identity | None) -> None:
        """The model was loaded, or refused, for another reason than a sighting."""
        self._tried = identity


class ModelWatch:
    """Calls `reload` when it is time, never twice at once. `loaded`: the identity read before the model was loaded."""

    def __init__(self, model: str, poll_ms: int, loaded: Identity | None, reload: Callable[[str], Awaitable[None]]):
        self._model, self._poll_s, self._reload = model, poll_ms / 1000, reload
        self._sightings = Sightings(loaded)
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """SIGHUP came. Asking again before the reload begins is asking once."""
        self._asked.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s or None):
                    await self._asked.wait()
            asked = self._asked.is_set()
            self._asked.clear()
            # Not on the loop: a file system that hangs must not stop the service.
            identity = await asyncio.to_thread(identity_of, self._model)
            if asked:
                self._sightings.tried(identity)
            elif not self._sightings.see(identity):
                continue
            try:
                await self._reload("SIGHUP" if asked else "file")
            except Exception:
                # A reload that fails in a way nobody thought of must not be the last one.
                logger.exception("the reload failed")
