"""Servers as processes of their own, started by a command of the test's choice."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from recserv.app.server_process import BANNER, ServerProcess
from tests.patience import HANG_GUARD_S
from tests.processes import read_line
from tests.project_files import ROOT


def serve_arguments(model: Path, state: Path) -> list[str]:
    where = ["--listen", "127.0.0.1:0", "--metrics-listen", "off"]
    return ["--model", str(model), "--state", f"embedded:{state}", *where]


@contextmanager
def launched(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the HOST:PORT of the server; what is left of its process group on leaving is killed."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            line = read_line(process.stdout)
            log.seek(0)
            assert line.startswith(BANNER), log.read().decode(errors="replace")
            yield process, line.removeprefix(BANNER).strip()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()


@contextmanager
def started(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """HOST:PORT of the server; leaving asks it to end, and wants exit code 0."""
    with launched(command, environment) as (process, target):
        yield target
        # The whole group: a tracer passes no signals on, and ends with what it traces.
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(HANG_GUARD_S) == 0


def stopped(server: ServerProcess) -> int:
    """Asks it to drain and end, and waits until it has: its exit code. Nobody insists, as `ServerProcess.stop` does."""
    os.kill(server.pid, signal.SIGTERM)
    return server.wait()
