"""`recserv serve` as a process of its own: started, asked where it listens, stopped."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NoReturn

from recserv.errors import RecservError

BANNER = "recserv listening on "
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
LOG_TAIL_BYTES = 4000
LOOK_AGAIN_S = 0.5


class ServerNotStarted(RecservError):
    """The server ended, or said nothing, before it listened. The message holds the end of its log."""

    reason = "SERVER_NOT_STARTED"


def end_as_by_ctrl_c() -> None:
    """From now on SIGTERM and a closed terminal end this process as Ctrl-C does: its servers end with it, and its files
    are removed. Unhandled they would kill it, and a server takes SIGHUP as a request to reload its model.
    """

    def end(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    def hang_up(*_: object) -> None:
        # An event loop may have its own handler for SIGTERM.
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    # Under nohup the process is to outlive the terminal.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, hang_up)


class ServerProcess:
    """A running server. `target` is the HOST:PORT that it printed."""

    def __init__(self, process: subprocess.Popen[str], target: str, log: IO[bytes]):
        self._process = process
        self._log = log
        self.target = target

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    @contextlib.contextmanager
    def started(cls, model: Path, state: Path | str, options: Sequence[str] = ()) -> Iterator[ServerProcess]:
        """Serves `model` on a free loopback port, its state in the file `state` or where that URL says; ends the server
        on leaving.

        Raises ServerNotStarted.
        """
        command = [
            *[sys.executable, "-m", "recserv", "serve", "--model", str(model), "--listen", "127.0.0.1:0"],
            *["--state", f"embedded:{state}" if isinstance(state, Path) else state, *options],
        ]
        # The port for metrics is fixed by default, and several of these may run on one machine.
        environment = {**os.environ, "RECSERV_METRICS_LISTEN": "off"}
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
            server = cls(process, "", log)
            try:
                server.target = server._wait_for_address()
                yield server
            finally:
                server.stop()

    def stop(self) -> int:
        """Asks it to drain and end, and insists after STOP_TIMEOUT_S. Returns its exit code. Idempotent."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def peak_bytes(self) -> int | None:
        """The most memory that the running server has had; None where the system does not tell (no /proc).

        Not from getrusage: a child starts there with its parent's peak.
        """
        status = Path(f"/proc/{self.pid}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)

    def wait(self) -> int:
        """Until the server ends by itself. Returns its exit code."""
        while True:
            # A signal that comes just before the process sleeps wakes nobody: so it never sleeps for long.
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(LOOK_AGAIN_S)

    def log_tail(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - LOG_TAIL_BYTES))
        return self._log.read().decode("utf-8", "replace")

    def _wait_for_address(self) -> str:
        """Reads standard output until the line that names the address."""
        output = self._process.stdout
        assert output is not None
        give_up_s = time.monotonic() + START_TIMEOUT_S
        seen = ""
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while (left_s := give_up_s - time.monotonic()) > 0:
                if not selector.select(left_s):
                    continue
                chunk = os.read(output.fileno(), 4096).decode("utf-8", "replace")
                if not chunk:
                    raise ServerNotStarted(f"the server ended before it listened:\n{self.log_tail().strip()}")
                seen += chunk
                for line in seen.splitlines(keepends=True):
                    if line.startswith(BANNER) and line.endswith("\n"):
                        return line.removeprefix(BANNER).strip()
        raise ServerNotStarted(f"the server did not listen within {START_TIMEOUT_S:g} s:\n{self.log_tail().strip()}")
