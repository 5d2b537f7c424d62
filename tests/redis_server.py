"""A Redis server of a test's own: a free loopback port, a folder of its own, every write synced before its answer."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests import tools
from tests.patience import HANG_GUARD_S, eventually

PORT_ATTEMPTS = 5
PROBE_S = 1.0
"""Of one look at whether the server answers. Running out of it costs another look."""


def free_port() -> int:
    """Of a moment ago: another process may be faster to take it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def reserved_port(port_max: int = 65_535) -> socket.socket:
    """Bound and never listening: nobody else is given its port, and a server that asks for it by number may have it."""
    while True:
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        if holder.getsockname()[1] <= port_max:
            return holder
        holder.close()


class RedisServer:
    """Start, stop, kill and restart; the port and the data stay the same across restarts.

    The port is reserved from the first start to `close`, also while no server runs.
    """

    def __init__(
        self,
        directory: Path,
        program: str | None = None,
        options: Sequence[str] = (),
        *,
        config: Path | None = None,
        port_max: int = 65_535,
    ):
        """`program`: another one than the machine's Redis. `options`: flags besides, which win over those below.
        `config`: a file of settings, which flags win over.
        """
        self.directory = directory
        self._config = config
        self._port_max = port_max
        self._program = program or tools.redis_server()
        self._options = options
        self.host = "127.0.0.1"
        self.port = 0
        self._holder: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once the server answers. A port may be of no use all the same (a node of a cluster listens at another
        one besides), so a start tries again with another one.
        """
        for attempt in range(PORT_ATTEMPTS):
            if self._holder is None or attempt > 0:
                self._reserve()
            if self._try_start():
                return
        raise AssertionError(f"redis-server does not start:\n{self._log_tail()}")

    def _reserve(self) -> None:
        if self._holder is not None:
            self._holder.close()
        self._holder = reserved_port(self._port_max)
        self.port = int(self._holder.getsockname()[1])

    def close(self) -> None:
        self.stop()
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self, options: Sequence[str] = ()) -> None:
        """`options`: flags besides, from now on."""
        self.stop()
        self._options = [*self._options, *options]
        self._process = None
        assert self._try_start(), f"redis-server does not start again:\n{self._log_tail()}"

    def client(self, timeout_s: float = HANG_GUARD_S) -> redis.Redis:
        # It asks once: its own retries pause for longer than the servers here need to start.
        once = Retry(NoBackoff(), 0)
        return redis.Redis(host=self.host, port=self.port, socket_timeout=timeout_s, decode_responses=True, retry=once)

    def _try_start(self) -> bool:
        with (self.directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *[self._program, *([str(self._config)] if self._config else [])],
                    *["--port", str(self.port), "--bind", self.host, "--dir", str(self.directory)],
                    *["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no"],
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A limit on file sizes, by which tests fill the disk, shall be an error of the write, not a signal.
                restore_signals=False,
            )
        answered = False

        def answers_or_ended() -> bool:
            nonlocal answered
            answered = self._answers()
            return answered or self._process is None or self._process.poll() is not None

        try:
            eventually(answers_or_ended, "redis-server answers")
        finally:
            if not answered:
                self.kill()
        return answered

    def _answers(self) -> bool:
        """True if it is our process, not another one's on that port, that answers."""
        try:
            with self.client(PROBE_S) as client:
                info = client.info("server")
        except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
            return False
        return bool(info["process_id"] == self.pid)

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(with_signal)
        try:
            self._process.wait(HANG_GUARD_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(HANG_GUARD_S)

    def _log_tail(self) -> str:
        return (self.directory / "redis.log").read_text(errors="replace")[-2000:]


@contextlib.contextmanager
def running_redis(directory: Path, **settings: Any) -> Iterator[RedisServer]:
    """`settings` as of RedisServer."""
    server = RedisServer(directory, **settings)
    try:
        server.start()
        yield server
    finally:
        server.close()
