"""The connections of a port, closed behind gRPC's back.

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
    if not _DESCRIPTORS.exists():
        return 0
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        found = [int(entry.name) for entry in _DESCRIPTORS.iterdir()]
        return sum(_replaced(descriptor, port, nowhere) for descriptor in found)
    finally:
        os.close(nowhere)


def _replaced(descriptor: int, port: int, nowhere: int) -> bool:
    # Between the listing and here its owner may have closed it.
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode) and _local_port(descriptor) == port:
            os.dup2(nowhere, descriptor, inheritable=False)
            return True
    return False


def _local_port(descriptor: int) -> int:
    """-1 for what is no TCP socket."""
    with socket.socket(fileno=os.dup(descriptor)) as found:
        if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
            return -1
        return int(found.getsockname()[1])
