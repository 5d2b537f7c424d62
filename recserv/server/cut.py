"""The connections of a port, found and closed behind gRPC's back.

gRPC can stop a server with a grace period or at once; either way it ends calls that arrive meanwhile as CANCELLED. A
connection that is simply closed makes the calls on it UNAVAILABLE, which every client understands.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

_DESCRIPTORS = Path("/proc/self/fd")


def cut_connections(port: int) -> int:
    """Closes every TCP socket of this process with this local port, listening or connected. Data already written still
    arrives. Returns how many were closed; 0 where the system does not list descriptors.

    The descriptors stay open for their owner to close, but lead nowhere.
    """
    return sum(replaced(descriptor, port) for descriptor, _ in sockets_of(port))


def sockets_of(port: int) -> list[tuple[int, bool]]:
    """Descriptors of this process's TCP sockets with this local port, and whether each is listening. Empty where the
    system does not list descriptors.
    """
    if not _DESCRIPTORS.exists():
        return []
    found = []
    for entry in _DESCRIPTORS.iterdir():
        descriptor = int(entry.name)
        # Its owner may have closed it since it was listed.
        with contextlib.suppress(OSError):
            if (listens := _listens(descriptor, port)) is not None:
                found.append((descriptor, listens))
    return found


def replaced(descriptor: int, port: int) -> bool:
    """Closes the descriptor's socket, if it is still one of this port."""
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
    """None if it is not a TCP socket of this port. Raises OSError if it is closed."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return None
    with socket.socket(fileno=os.dup(descriptor)) as found:
        if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
            return None
        if int(found.getsockname()[1]) != port:
            return None
        return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
