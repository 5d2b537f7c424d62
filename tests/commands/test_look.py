"""`recserv look`, without a browser; the page in one is tested in tests/web."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from recserv import cli
from recserv.app.server_process import ServerProcess
from recserv.commands import look
from tests.patience import HANG_GUARD_S, eventually
from tests.processes import listening


@contextmanager
def looking(*arguments: str, under: str = "--default-signal=HUP,INT") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the page's address. `under`: how its signals are when it begins; whoever runs the tests, as with
    nohup, may ignore some.
    """
    command = ["env", under, sys.executable, "-m", "recserv", "look", "--no-browser", *arguments]
    # Killed it would leave its folder behind.
    with listening(command, "recserv look on", end=subprocess.Popen.terminate) as started:
        yield started


def _get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=HANG_GUARD_S, trust_env=False)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("ends_by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_model_is_served_with_its_page_until_it_is_told_to_end(tiny_model: Path, ends_by: signal.Signals) -> None:
    with looking("--model", str(tiny_model)) as (process, url):
        assert "<title>" in _get(url).text
        api = url.removesuffix("/look/")
        assert _get(f"{api}/api/v1/recommendations?session_id=s").json()["results"]
        [server] = _children(process.pid)
        process.send_signal(ends_by)
        _, told = process.communicate(timeout=HANG_GUARD_S)
        assert (process.returncode, told) == (0, "")
        eventually(lambda: not os.path.exists(f"/proc/{server}"), "its server has ended")


def test_with_nohup_it_outlives_its_terminal(recserv_server: ServerProcess) -> None:
    with looking("--target", recserv_server.target, under="--ignore-signal=HUP") as (process, url):
        process.send_signal(signal.SIGHUP)
        assert "<title>" in _get(url).text
        process.terminate()
        assert process.wait(HANG_GUARD_S) == 0


def test_a_server_that_runs_is_looked_at_beside_another(recserv_server: ServerProcess) -> None:
    target = recserv_server.target
    with looking("--target", target, "--compare", target) as (process, url):
        assert _children(process.pid) == []
        assert _get(f"{url}config.json").json()["compares"] is True
        api = url.removesuffix("/look/")
        assert _get(f"{api}/compare/api/v1/recommendations?session_id=s").json()["results"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--target", "127.0.0.1:1", "--model", "m"], "give one of them"),
        (["--target", "localhost"], "127.0.0.1:50051"),
        (["--target", "127.0.0.1:1", "--compare", "nowhere"], "compare"),
        (["--target", "127.0.0.1:1", "--listen", "8080"], "listen"),
        (["--model", "nowhere"], "recserv build --out nowhere"),
        (["--model", "."], "no folder that recserv build wrote"),
    ],
)
def test_wrong_use_is_a_sentence_and_exit_code_2(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["look", "--no-browser", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("recserv look: ")
    assert told in lines[0]


def test_a_port_in_use_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[object] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(look, "build_demo", lambda *given: built.append(given))
    monkeypatch.setattr(look, "end_as_by_ctrl_c", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert cli.main(["look", "--no-browser", "--listen", address]) == 2
    assert built == []
    assert capsys.readouterr().err.startswith(f"recserv look: cannot listen on {address}: ")


def test_without_a_target_the_model_of_the_demo_is_built_once_and_kept(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, served = [], []

    def build(_: object, out: Path, scratch: Path) -> None:
        built.append(out)
        out.symlink_to(tiny_model)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(look, "build_demo", build)
    monkeypatch.setattr(look, "_serve", lambda settings, quiet: served.append(settings))
    monkeypatch.setattr(look, "end_as_by_ctrl_c", lambda: None)
    for _ in range(2):
        assert cli.main(["look", "--no-browser"]) == 0
    assert built == [Path("demo-model")]
    assert [(one.page, one.images, one.compare) for one in served] == [(True, False, "")] * 2
    assert all(one.target.startswith("127.0.0.1:") for one in served)


@pytest.mark.parametrize(
    ("quiet", "screen", "opened"), [(False, ":0", ["http://x/look/"]), (True, ":0", []), (False, "", [])]
)
def test_the_browser_is_opened_where_there_is_a_screen_and_nobody_said_no(
    quiet: bool, screen: str, opened: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if screen:
        monkeypatch.setenv("DISPLAY", screen)
    monkeypatch.setattr(look.sys, "platform", "linux")
    found: list[Any] = []
    look._show("http://x/look/", quiet, found.append)
    if opened:
        eventually(lambda: found, "the browser is opened")
    assert found == opened
    assert capsys.readouterr().out.startswith("recserv look on http://x/look/\n")
