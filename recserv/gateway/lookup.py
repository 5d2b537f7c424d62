"""Addresses behind a name, looked up without holding up anybody else.

A resolver that is down blocks its thread for ten seconds or more, and giving up the wait does not free the thread. The
loop's own threads are few and do other work, too; so each lookup has its own thread, and a name never more than one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from threading import Thread


class Name:
    """Used on one event loop."""

    def __init__(self, host: str, port: int):
        self._host, self._port = host, port
        self._finding: asyncio.Future[list[str]] | None = None

    async def addresses(self) -> list[str]:
        """In the order in which to try them; empty: none is known. The lookup goes on when its caller gives up."""
        if self._finding is None or self._finding.done():
            self._finding = asyncio.get_running_loop().create_future()
            # A daemon: the process ends without waiting for it.
            Thread(target=self._find, args=(self._finding,), daemon=True).start()
        return await asyncio.shield(self._finding)

    def _find(self, finding: asyncio.Future[list[str]]) -> None:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        with contextlib.suppress(RuntimeError):
            # The loop may have ended.
            finding.get_loop().call_soon_threadsafe(_tell, finding, addresses)


def _tell(finding: asyncio.Future[list[str]], addresses: list[str]) -> None:
    if not finding.done():
        finding.set_result(addresses)
