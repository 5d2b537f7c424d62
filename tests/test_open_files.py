"""Programs that serve take all the connections that the system lets them have, and not the soft limit's."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.durability.servers import launched, serve_arguments
from tests.patience import HANG_GUARD_S
from tests.processes import listening

SOFT, HARD = 64, 512
PYTHON = [sys.executable, "-m", "recserv"]
GATEWAY = [*PYTHON, "gateway", "--target", "127.0.0.1:1", "--listen", "127.0.0.1:0"]


def limited(command: Sequence[str]) -> list[str]:
    return ["bash", "-c", f'ulimit -Sn {SOFT} && ulimit -Hn {HARD} && exec "$@"', "bash", *command]


def open_files(pid: int) -> list[str]:
    """Soft and hard limit of a process."""
    [line] = [
        line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max open files")
    ]
    return line.split()[3:5]


def test_a_server_may_open_what_the_hard_limit_allows(tiny_model: Path, tmp_path: Path) -> None:
    command = [*PYTHON, "serve", *serve_arguments(tiny_model, tmp_path / "state.sqlite")]
    with launched(limited(command), {}) as (process, _):
        assert open_files(process.pid) == [str(HARD), str(HARD)]


def test_a_gateway_answers_more_connections_at_once_than_the_soft_limit() -> None:
    with ExitStack() as stack:
        _, address = stack.enter_context(listening(limited(GATEWAY), "recserv gateway on"))
        host, _, port = address.removeprefix("http://").partition(":")
        callers = []
        for _ in range(2 * SOFT):
            caller = stack.enter_context(socket.create_connection((host, int(port)), timeout=HANG_GUARD_S))
            caller.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: shop\r\n\r\n")
            callers.append(caller)
        assert {caller.recv(12) for caller in callers} == {b"HTTP/1.1 200"}


def test_a_gateway_says_that_it_cannot_open_all_its_connections() -> None:
    def end(process: subprocess.Popen[str]) -> None:
        process.terminate()
        _, log = process.communicate(timeout=HANG_GUARD_S)
        said.extend(json.loads(line) for line in log.splitlines())

    said: list[dict[str, object]] = []
    with listening(limited(GATEWAY), "recserv gateway on", end):
        pass
    [first, *_] = said
    assert (first["level"], first["open_files"], first["max_connections"]) == ("warning", HARD, 3000)
