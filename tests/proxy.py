"""A TCP proxy that breaks on purpose: between a client and a Redis, an HTTP or a gRPC server of a test.

    client -> reader -> queue of (arrival, chunk) -> faults -> writer -> upstream        requests
    client <- writer <- faults <- queue of (arrival, chunk) <- reader <- upstream        replies

It runs on a loop and a thread of its own, so that it neither waits for what is tested nor holds it up. Faults are
switched on and off while it runs; what is held back flows as soon as they end. A *batch* is what one side says before
the other speaks: with a protocol of questions and answers, one round trip.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from tests.patience import HANG_GUARD_S

CHUNK_BYTES = 64 * 1024
QUEUED_CHUNKS_MAX = 64
CONNECTIONS_MAX = 1000
BACKLOG = 512
_LINGER_NONE = struct.pack("ii", 1, 0)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong, all at once if several are set. The default is a wire that works.

    `latency_s`, and up to `jitter_s` more, hold back each reply. `blackhole`: nothing passes either way, and nobody is
    told; what was sent arrives when it ends, as after a partition. `reset`: open connections and new ones get an RST.
    `cut_every` n: every n-th reply (counted over all connections) breaks off after `cut_keeps` of its first chunk, and
    its connection with it: the request was carried out, its answer is lost. `bytes_per_s` limits each direction of each
    connection. `garbage`: replies are random bytes of the same length. `refuse`: nobody listens; open connections stay.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    blackhole: bool = False
    reset: bool = False
    cut_every: int = 0
    cut_keeps: float = 0.5
    bytes_per_s: float = 0.0
    garbage: bool = False
    refuse: bool = False


NO_FAULTS = Faults()


@dataclasses.dataclass
class Counts:
    """Since the start. A chunk counts when its turn to be passed on has come, whether or not it then is."""

    connections: int = 0
    request_batches: int = 0
    reply_batches: int = 0
    request_bytes: int = 0
    reply_bytes: int = 0
    cut: int = 0


class TcpProxy:
    """Listens on a free loopback port, which stays its own until `close`. A context manager.

    `clock` counts latency. Where it does not run by itself, what is held back looks at it when faults are set.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0, clock: Callable[[], float] = time.monotonic):
        self.host = "127.0.0.1"
        self._upstream = (host, port)
        self._random = random.Random(seed)
        self.clock = clock
        self._faults = NO_FAULTS
        self._counts = Counts()
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        # Bound and never listening: the port is ours also while nobody listens on it.
        self._reserved = _bound(0)
        self.port = int(self._reserved.getsockname()[1])
        self._listener: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()
        self._changed = asyncio.Event()
        self._on_loop(self._listen)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def faults(self) -> Faults:
        return self._faults

    def set(self, **faults: Any) -> None:
        """From now on these faults and no others; see Faults. In force on return."""
        self._on_loop(lambda: self._apply(Faults(**faults)))

    def heal(self) -> None:
        self.set()

    @contextlib.contextmanager
    def broken(self, **faults: Any) -> Iterator[None]:
        self.set(**faults)
        try:
            yield
        finally:
            self.heal()

    def counts(self) -> Counts:
        return self._on_loop(lambda: _done(dataclasses.replace(self._counts)))

    def open_connections(self) -> int:
        return self._on_loop(lambda: _done(len(self._connections)))

    def drop_connections(self) -> None:
        """Resets those that are open; new ones work."""
        self._on_loop(self._drop)

    def redirect(self, host: str, port: int) -> None:
        """New connections go there."""
        self._upstream = (host, port)

    def close(self) -> None:
        """Idempotent."""
        if self._loop.is_closed():
            return
        self._on_loop(self._shut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(HANG_GUARD_S)
        self._loop.close()
        self._reserved.close()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _on_loop(self, work: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(HANG_GUARD_S)

    async def _listen(self) -> None:
        listener = _bound(self.port)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self._listener = self._loop.create_task(self._accept(listener))

    async def _accept(self, listener: socket.socket) -> None:
        # Not asyncio's server: one that is closed forgets connections that it has just accepted, and they hang.
        with listener:
            while True:
                accepted, _ = await self._loop.sock_accept(listener)
                task = self._loop.create_task(self._serve(accepted))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait((self._listener,))
            self._listener = None

    async def _apply(self, faults: Faults) -> None:
        self._faults = faults
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if faults.refuse:
            await self._refuse()
        elif self._listener is None:
            await self._listen()
        if faults.reset:
            await self._drop()

    async def _drop(self) -> None:
        for connection in tuple(self._connections):
            connection.reset()

    async def _shut(self) -> None:
        await self._refuse()
        await self._drop()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, accepted: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=accepted, limit=CHUNK_BYTES)
        self._counts.connections += 1
        connection = _Connection(self, reader, writer)
        self._connections.add(connection)
        try:
            if not self._faults.reset and len(self._connections) <= CONNECTIONS_MAX:
                await connection.relay(*self._upstream)
        except* OSError:
            # One side went away, or is not there: the other one learns it from the reset.
            pass
        finally:
            self._connections.discard(connection)
            connection.reset()

    async def pause(self, seconds: float | None = None) -> None:
        """Until the faults change, and at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    # What the two directions of a connection note.

    def note_request(self, size: int, *, begins: bool) -> None:
        self._counts.request_bytes += size
        self._counts.request_batches += begins

    def note_reply(self, size: int, *, begins: bool) -> bool:
        """True if this reply is one to cut."""
        self._counts.reply_bytes += size
        self._counts.reply_batches += begins
        every = self._faults.cut_every
        if not (begins and every and self._counts.reply_batches % every == 0):
            return False
        self._counts.cut += 1
        return True

    def hold_s(self) -> float:
        return self._faults.latency_s + self._random.uniform(0.0, self._faults.jitter_s)

    def noise(self, size: int) -> bytes:
        return self._random.randbytes(size)


class _Connection:
    """One client's connection and its counterpart upstream."""

    def __init__(self, proxy: TcpProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.proxy = proxy
        self.client_spoke_last = False
        self._reader, self._writer = reader, writer
        self._upstream: asyncio.StreamWriter | None = None

    async def relay(self, host: str, port: int) -> None:
        upstream_reader, self._upstream = await asyncio.open_connection(host, port, limit=CHUNK_BYTES)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_Direction(self, self._reader, self._upstream, replies=False).relay(both))
                both.create_task(_Direction(self, upstream_reader, self._writer, replies=True).relay(both))
        except* _Cut:
            # What passed before the cut shall arrive: a reset would throw it away.
            pass
        for writer in (self._writer, self._upstream):
            writer.close()
        async with asyncio.timeout(HANG_GUARD_S):
            await asyncio.gather(self._writer.wait_closed(), self._upstream.wait_closed(), return_exceptions=True)

    def reset(self) -> None:
        for writer in (self._writer, self._upstream):
            if writer is not None:
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
                writer.transport.abort()


class _Cut(Exception):
    """A reply broke off, and its connection with it."""


class _Direction:
    def __init__(
        self, connection: _Connection, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, replies: bool
    ):
        self._connection, self._proxy = connection, connection.proxy
        self._source, self._sink, self._replies = source, sink, replies
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED_CHUNKS_MAX)

    async def relay(self, group: asyncio.TaskGroup) -> None:
        group.create_task(self._write())
        while True:
            chunk = await self._source.read(CHUNK_BYTES)
            await self._queue.put((self._proxy.clock(), chunk))
            if not chunk:
                return

    async def _write(self) -> None:
        while True:
            arrived_s, chunk = await self._queue.get()
            cut = self._note(chunk) if chunk else False
            await self._hold(arrived_s)
            if not chunk:
                self._sink.write_eof()
                return
            if cut:
                chunk = chunk[: int(len(chunk) * self._proxy.faults.cut_keeps)]
            await self._send(chunk)
            if cut:
                raise _Cut

    def _note(self, chunk: bytes) -> bool:
        begins = self._connection.client_spoke_last is self._replies
        self._connection.client_spoke_last = not self._replies
        if self._replies:
            return self._proxy.note_reply(len(chunk), begins=begins)
        self._proxy.note_request(len(chunk), begins=begins)
        return False

    async def _hold(self, arrived_s: float) -> None:
        """Until neither a blackhole nor the latency is in the way, whatever they become meanwhile."""
        while True:
            faults = self._proxy.faults
            if faults.blackhole:
                await self._proxy.pause()
                continue
            left_s = arrived_s + self._proxy.hold_s() - self._proxy.clock() if self._replies else 0.0
            if left_s <= 0:
                return
            await self._proxy.pause(left_s)
            if self._proxy.faults is faults:
                return

    async def _send(self, chunk: bytes) -> None:
        if self._replies and self._proxy.faults.garbage:
            chunk = self._proxy.noise(len(chunk))
        while chunk:
            rate = self._proxy.faults.bytes_per_s
            piece, chunk = (chunk[:1], chunk[1:]) if rate else (chunk, b"")
            self._sink.write(piece)
            await self._sink.drain()
            if rate:
                await self._proxy.pause(1.0 / rate)


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


async def _done(value: T) -> T:
    return value
