"""How clients are sent elsewhere while their calls are still answered.

    no new connections -> GOAWAY on those that there are -> clients send new calls to another server, and leave

gRPC sends GOAWAY only as the first act of its shutdown, and from that moment ends whatever call arrives as CANCELLED.
What clients had sent before they read it is lost to them: with 400 calls a second and no retry policy, 9 of 4,971 in 15
restarts of one of two servers. So the frame is written here, beside gRPC, which goes on to serve: none of 14,341 in 40
restarts. Clients that read it begin no call on the connection any more, finish those under way, and close it.

A frame must not come into the middle of another one. gRPC has written a part of one alone where the kernel's buffer was
full. So the frame is written only where little was waiting in that buffer at two looks, LOOK_AGAIN_S apart; a
connection of which that never holds gets gRPC's GOAWAY, with the shutdown.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios

from recserv.server.cut import replaced, sockets_of

# Length 8, type GOAWAY, no flags, stream 0; last stream id: any, so all that are under way are taken; NO_ERROR.
FRAME = bytes([0, 0, 8, 7, 0, 0, 0, 0, 0]) + struct.pack(">II", 2**31 - 1, 0)
LITTLE_BYTES = 4096
LOOK_AGAIN_S = 0.02


class Farewell:
    """To whoever is connected to a port of this process. Linux alone: elsewhere it does nothing."""

    def __init__(self, port: int):
        self._port = port
        self._quiet: set[int] = set()
        self._told: set[int] = set()

    def stop_listening(self) -> int:
        """New connections are refused. Returns how many sockets listened."""
        listening = [descriptor for descriptor, listens in sockets_of(self._port) if listens]
        return sum(replaced(descriptor, self._port) for descriptor in listening)

    def look(self) -> int:
        """Tells those who can be told now; to be called again after LOOK_AGAIN_S. Returns how many are connected."""
        connected, quiet = 0, set()
        for descriptor, listens in sockets_of(self._port):
            # It may be closed meanwhile, by either side.
            with contextlib.suppress(OSError):
                if listens:
                    continue
                connected += 1
                # Descriptors are given to others, this number is not, as long as it is open.
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
    """Written, and not yet acknowledged by the other side."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), "little")
