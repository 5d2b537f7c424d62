"""A Redis server of a test's own: a free loopback port, a folder of its own, every write synced before its answer."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import redis

from tests import tools

START_TIMEOUT_S = 15.0
PORT_ATTEMPTS = 5


def free_port(port_max: int = 65_535) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port <= port_max:
            return port


class RedisServer:
    """Start, stop, kill and restart; the port and the data stay the same across restarts."""

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
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once the server answers PING. Between choosing a port and taking it another process may be faster,
        so a first start tries again with another one.
        """
        for attempt in range(PORT_ATTEMPTS):
            if self.port == 0 or attempt > 0:
                self.port = free_port(self._port_max)
            if self._try_start():
                return
        raise AssertionError(f"redis-server does not start:\n{self._log_tail()}")

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

    def client(self) -> redis.Redis:
        return redis.Redis(host=self.host, port=self.port, socket_timeout=5.0, decode_responses=True)

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
        give_up = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < give_up and self._process.poll() is None:
            if self._answers():
                return True
            time.sleep(0.01)
        self.kill()
        return False

    def _answers(self) -> bool:
        """True if it is our process, not another one's on that port, that answers."""
        try:
            with self.client() as client:
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
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=10)

    def _log_tail(self) -> str:
        return (self.directory / "redis.log").read_text(errors="replace")[-2000:]


@contextlib.contextmanager
def running_redis(directory: Path, **settings: Any) -> Iterator[RedisServer]:
    """`settings` as of RedisServer."""
    server = RedisServer(directory, **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()
