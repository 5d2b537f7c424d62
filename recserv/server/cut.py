"""The connections of a port, found and closed behind gRPC's back.

gRPC knows two ways to end a server: with a grace period, in which it ends new calls as CANCELLED, or at once, with the
same end for those that arrive meanwhile. A connection that is simply closed is UNAVAILABLE to whoever sent a call on
it, which every client understands.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

_DESCRIPTORS = Path("/proc/self/fd")


def cut_connections(port: int) -> int:
    """Closes every TCP socket of this process that has this local port, whether it listens or is connected. What was
    written arrives. Returns how many; 0 where the system does not list descriptors.

    Their descriptors stay, for their owner to close: they lead nowhere.
    """
    return sum(replaced(descriptor, port) for descriptor, _ in sockets_of(port))


def sockets_of(port: int) -> list[tuple[int, bool]]:
    """Descriptors of the TCP sockets of this process that have this local port, and whether each listens. Empty where
    the system does not list descriptors.
    """
    if not _DESCRIPTORS.exists():
        return []
    found = []
    for entry in _DESCRIPTORS.iterdir():
        descriptor = int(entry.name)
        # Between the listing and here its owner may have closed it.
        with contextlib.suppress(OSError):
            if (listens := _listens(descriptor, port)) is not None:
                found.append((descriptor, listens))
    return found


def replaced(descriptor: int, port: int) -> bool:
    """Closes what has the descriptor, if it still is a socket of this port."""
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            if _listens(descriptor, port) is not None:
                os.dup2(nowhere, descriptor, inheritable=False)
                return True
        return False
    finally:
        os.close(nowhere)


def _listens(descriptor: int, port: int) -> bool | None:
    """None for what is no TCP socket of this port. Raises OSError for what is closed."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return None
    with socket.socket(fileno=os.dup(descriptor)) as found:
        if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
            return None
        if int(found.getsockname()[1]) != port:
            return None
        return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
