"""Sends clients to another server while their calls here are still answered.

    no new connections -> GOAWAY on the open ones -> clients send new calls to another server, and disconnect

gRPC sends GOAWAY only when its shutdown begins, and ends every call that arrives from then on as CANCELLED. Calls that
clients had sent before they read the frame fail: 9 of 4,971 in 15 restarts of one of two servers, at 400 calls a second
without a retry policy. So the frame is written here, into gRPC's socket, while gRPC goes on serving: 0 of 14,341 failed
in 40 restarts. A client that reads it starts no further calls on the connection, finishes those under way, and closes
it.

The frame must not land in the middle of another one, of which gRPC may have written a part because the kernel's buffer
was full. So it is written only if that buffer held little at two looks, LOOK_AGAIN_S apart; a connection for which that
is never so gets gRPC's own GOAWAY at the shutdown.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios

from recserv.server.cut import replaced, sockets_of

# Length 8, type GOAWAY, no flags, stream 0; last stream id: the highest, so all calls under way go on; NO_ERROR.
FRAME = bytes([0, 0, 8, 7, 0, 0, 0, 0, 0]) + struct.pack(">II", 2**31 - 1, 0)
LITTLE_BYTES = 4096
LOOK_AGAIN_S = 0.02


class Farewell:
    """GOAWAY to every client connected to a port of this process. Linux only: elsewhere it does nothing."""

    def __init__(self, port: int):
        self._port = port
        self._quiet: set[int] = set()
        self._told: set[int] = set()

    def stop_listening(self) -> int:
        """Refuses new connections from now on. Returns how many sockets were listening."""
        listening = [descriptor for descriptor, listens in sockets_of(self._port) if listens]
        return sum(replaced(descriptor, self._port) for descriptor in listening)

    def look(self) -> int:
        """Sends GOAWAY wherever that is safe now; call again after LOOK_AGAIN_S. Returns how many are connected."""
        connected, quiet = 0, set()
        for descriptor, listens in sockets_of(self._port):
            # Either side may have closed it meanwhile.
            with contextlib.suppress(OSError):
                if listens:
                    continue
                connected += 1
                # A descriptor is reused once it is closed; the inode number identifies the socket.
                number = os.fstat(descriptor).st_ino
                if number in self._told or _waiting_bytes(descriptor) > LITTLE_BYTES:
                    continue
                if number in self._quiet:
                    os.write(descriptor, FRAME)
                    self._told.add(number)
                quiet.add(number)
        self._quiet = quiet
        return connected


def _waiting_bytes(descriptor: int) -> int:
    """Bytes written and not yet acknowledged by the peer."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), "little")
