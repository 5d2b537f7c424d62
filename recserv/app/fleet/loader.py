"""The process that loads one model and forks the workers that serve it.

    orders (standard input) -> model verified, engine made -> everything frozen -> forks when told to, tells who ended

It has one thread, and of gRPC only imported modules, so that a fork is safe; the parent decides everything. When the
connection to the parent ends, the workers drain by themselves; those that do not are killed.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from socket import socket

import msgspec

from recserv.app.fleet.control import (
    Fork,
    Kill,
    LoaderHere,
    LogLine,
    Message,
    ModelLoaded,
    ModelRefused,
    Orders,
    Unframer,
    WorkerExited,
    WorkerForked,
    connect,
    frame,
)
from recserv.app.fleet.worker import serve_as_worker
from recserv.app.model import Model, load_model, load_whole_model
from recserv.errors import UsageError

logger = logging.getLogger("recserv.app")

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_KILL_AFTER_S = 5.0
_READ_BYTES = 1 << 16


class _Relay(logging.Handler):
    """Log lines go to the parent, which has a thread to write them."""

    def __init__(self, send: Callable[[Message], None]):
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(LogLine(record.levelno, record.getMessage(), dict(getattr(record, "fields", {}))))


class Loader:
    def __init__(self, orders: Orders, connection: socket):
        self._orders, self._connection = orders, connection
        self._unframer = Unframer()
        self._workers: dict[int, int] = {}
        """Slots by process id."""
        self._model: Model | None = None
        self._ended_read, self._ended_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        """Runs until the connection to the parent ends. Returns the exit code."""
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        self._send(LoaderHere(self._orders.generation, os.getpid()))
        if not self._load():
            return 2
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._ended_write, warn_on_full_buffer=False)
        while self._wait():
            self._reap()
        self._end()
        return 0

    def _send(self, message: Message) -> None:
        # If the parent is gone, the next read says so.
        with contextlib.suppress(OSError):
            self._connection.sendall(frame(message))

    def _load(self) -> bool:
        root = logging.getLogger()
        relay = _Relay(self._send)
        root.addHandler(relay)
        root.setLevel(self._orders.settings.log_level.upper())
        began = time.monotonic()
        settings = self._orders.settings
        try:
            self._model = load_whole_model(settings) if self._orders.whole else load_model(settings)
            snapshot = self._model.engine.snapshot
        except UsageError as error:
            self._send(ModelRefused(str(error)))
            return False
        finally:
            root.removeHandler(relay)
        gc.collect()
        gc.freeze()
        self._send(ModelLoaded(snapshot.version, snapshot.item_count, time.monotonic() - began))
        return True

    def _wait(self) -> bool:
        """Waits until there is something to do; does what the parent says. False at the end of the connection."""
        readable, _, _ = select.select([self._connection.fileno(), self._ended_read], [], [])
        if self._connection.fileno() not in readable:
            return True
        try:
            data = self._connection.recv(_READ_BYTES)
        except ConnectionError:
            return False
        for message in self._unframer.feed(data):
            if isinstance(message, Fork):
                self._fork(message.slot)
            elif isinstance(message, Kill):
                self._kill(message.slot)
        return bool(data)

    def _fork(self, slot: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            # Too many processes, or no memory: for the parent it is a worker that ended at once.
            logger.error("cannot fork", extra={"fields": {"problem": str(error)}})
            self._send(WorkerExited(slot, 0, 1))
            return
        if pid == 0:
            self._become_worker(slot)
        self._workers[pid] = slot
        self._send(WorkerForked(slot, pid))

    def _become_worker(self, slot: int) -> None:
        """In the child; never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._connection.close()
            os.close(self._ended_read)
            os.close(self._ended_write)
            assert self._model is not None
            code = serve_as_worker(
                self._orders.settings, self._model, self._orders.control, self._orders.generation, slot
            )
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _kill(self, slot: int) -> None:
        for pid, at in self._workers.items():
            if slot in (0, at):
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._ended_read, _READ_BYTES)
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._send(WorkerExited(self._workers.pop(pid), pid, os.waitstatus_to_exitcode(status)))

    def _end(self) -> None:
        give_up_s = time.monotonic() + self._orders.settings.drain_ms / 1000 + _KILL_AFTER_S
        while self._workers:
            left_s = give_up_s - time.monotonic()
            if left_s <= 0:
                self._kill(0)
            select.select([self._ended_read], [], [], max(0.1, left_s))
            self._reap()


def main() -> int:
    orders = msgspec.json.decode(sys.stdin.buffer.read(), type=Orders)
    return Loader(orders, connect(orders.control)).run()


if __name__ == "__main__":
    # The interpreter's own shutdown would only take time: nothing is left to be written.
    os._exit(main())
