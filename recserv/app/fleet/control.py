"""What the processes of one server tell each other, over a Unix socket of the parent's.

    loader  -> parent    LoaderHere, ModelLoaded | ModelRefused, WorkerForked, WorkerExited, LogLine
    worker  -> parent    WorkerHere, WorkerReady | WorkerRefused, Stats
    parent  -> loader    Fork, Kill             parent -> worker    Drain, AskStats

A message is its length (4 bytes, big endian) and msgpack. The socket has an abstract name, which needs no directory and
disappears with its owner; only processes of the same user are heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from recserv.config import Settings
from recserv.metrics.merge import Family

logger = logging.getLogger("recserv.app")

_MESSAGE_BYTES_MAX = 16 << 20
_READ_BYTES = 1 << 16
_HEADER = struct.Struct(">I")
_PEER = struct.Struct("3i")


class _Message(msgspec.Struct, tag=True, array_like=True):
    pass


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a loader is told at its start, as JSON on its standard input. `listen` of the settings names the real port.
    `whole`: the model is to replace one that serves, so nothing of it may be missing.
    """

    settings: Settings
    control: str
    generation: int
    whole: bool


class LoaderHere(_Message):
    generation: int
    pid: int


class ModelLoaded(_Message):
    version: str
    items: int
    seconds: float


class ModelRefused(_Message):
    problem: str


class WorkerForked(_Message):
    slot: int
    pid: int


class WorkerExited(_Message):
    """`code`: the exit code, or minus the number of the signal."""

    slot: int
    pid: int
    code: int


class LogLine(_Message):
    level: int
    text: str
    fields: dict[str, Any]


class WorkerHere(_Message):
    generation: int
    slot: int
    pid: int


class WorkerReady(_Message):
    pass


class WorkerRefused(_Message):
    """It cannot start, and no other attempt will fare better."""

    problem: str


class Stats(_Message):
    families: list[Family]


class Fork(_Message):
    slot: int


class Kill(_Message):
    """At once. Slot 0: all of them."""

    slot: int


class Drain(_Message):
    pass


class AskStats(_Message):
    pass


FromLoader = LoaderHere | ModelLoaded | ModelRefused | WorkerForked | WorkerExited | LogLine
FromWorker = WorkerHere | WorkerReady | WorkerRefused | Stats
ToLoader = Fork | Kill
ToWorker = Drain | AskStats
Message = FromLoader | FromWorker | ToLoader | ToWorker

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


def frame(message: Message) -> bytes:
    body = _encode(message)
    return _HEADER.pack(len(body)) + body


class Unframer:
    """Bytes as they come -> whole messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Raises ValueError for bytes that are no message."""
        self._buffer += data
        found = []
        while len(self._buffer) >= _HEADER.size:
            (size,) = _HEADER.unpack_from(self._buffer)
            if size > _MESSAGE_BYTES_MAX:
                raise ValueError(f"a message of {size} bytes")
            end = _HEADER.size + size
            if len(self._buffer) < end:
                break
            found.append(_decode(bytes(self._buffer[_HEADER.size : end])))
            del self._buffer[:end]
        return found


def connect(name: str) -> socket.socket:
    """A blocking connection to the parent."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect("\0" + name)
    return connection


class Peer:
    """The parent's end of a connection."""

    def __init__(self, hello: LoaderHere | WorkerHere, writer: asyncio.StreamWriter):
        self.hello = hello
        self._writer = writer

    def send(self, message: Message) -> None:
        """Does not wait, and ignores that the other end is gone: that is reported elsewhere."""
        if not self._writer.is_closing():
            self._writer.write(frame(message))


class ControlServer:
    """Accepts connections; reports each message of a connection, and its end, in order."""

    def __init__(self, on_message: Callable[[Peer, Message], None], on_gone: Callable[[Peer], None]):
        self._on_message, self._on_gone = on_message, on_gone
        self.name = f"recserv-{secrets.token_hex(16)}"
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind("\0" + self.name)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        _, user, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if user != os.geteuid():
            logger.warning("a stranger on the control socket", extra={"fields": {"uid": user}})
            writer.close()
            return
        peer: Peer | None = None
        try:
            async for message in messages(reader):
                if peer is None:
                    assert isinstance(message, LoaderHere | WorkerHere)
                    peer = Peer(message, writer)
                self._on_message(peer, message)
        finally:
            writer.close()
            if peer is not None:
                self._on_gone(peer)


async def messages(reader: asyncio.StreamReader) -> AsyncIterator[Message]:
    """The messages of a connection until its end, an abrupt one included. Raises ValueError for bytes that are none."""
    unframer = Unframer()
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_READ_BYTES):
            for message in unframer.feed(data):
                yield message
