from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from recserv import cli
from recserv.commands.build import parse_columns
from recserv.errors import UsageError
from tests.patience import HANG_GUARD_S, PATIENT_SERVER


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "recserv", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_GUARD_S, check=False)


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A server, killed if it lasts too long: what it would have printed ends with it."""
    command = [sys.executable, "-m", "recserv", "serve", "--listen", "127.0.0.1:0", *PATIENT_SERVER, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        guard = threading.Timer(2 * HANG_GUARD_S, process.kill)
        guard.start()
        try:
            yield process
        finally:
            guard.cancel()
            process.kill()


def test_a_command_that_nobody_knows_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["fly"])
    assert caught.value.code == 2
    assert "fly" in capsys.readouterr().err


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_mistyped_flag_shows_the_usage_of_its_own_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    needed = {
        "build": ["--events", "e", "--out", "o"],
        "inspect": ["f"],
        "check": ["m"],
        "eval": ["--model", "m", "--sessions", "s"],
        "query": ["--target", "127.0.0.1:1"],
        "explain": ["--target", "127.0.0.1:1"],
        "bench": ["--target", "127.0.0.1:1"],
        "tail": ["--group", "g"],
        "import": ["--events", "e"],
        "dashboard": ["--out", "d"],
    }
    with pytest.raises(SystemExit) as caught:
        cli.main([command, *needed.get(command, []), "--no-such-flag"])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"usage: recserv {command} ")
    assert "unrecognized arguments: --no-such-flag" in told


def test_a_mistyped_flag_is_told_with_the_one_that_may_be_meant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["serve", "--metric-listne=off"])
    assert "did you mean --metrics-listen?" in capsys.readouterr().err


def test_the_version_is_that_of_the_installed_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"recserv {version('recserv')}\n"


@pytest.mark.parametrize("command", [["query"], ["explain"], ["eval", "--sessions", "sessions.tsv"]])
@pytest.mark.parametrize("target", ["localhost", "127.0.0.1", "[::1]", "dns:///shop.example", "localhost:"])
def test_a_server_without_a_port_is_refused_and_not_looked_for_at_443(
    command: list[str], target: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sessions.tsv").write_text("item-1\titem-2\n")
    assert cli.main([*command, "--target", target]) == 2
    told = capsys.readouterr().err
    assert target in told
    assert "HOST:PORT" in told


def test_every_problem_of_the_settings_is_a_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSERV_LISEN", "x")
    assert cli.main(["serve", "--workers", "none", "--listen", "nowhere"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("recserv serve: ") for line in lines)


def test_ctrl_c_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    from recserv.commands import check

    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "run", interrupted)
    assert cli.main(["check", "anything"]) == 130


def test_a_model_that_is_not_there_is_exit_code_2_and_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "no-model"
    assert cli.main(["serve", "--model", str(missing)]) == 2
    assert str(missing) in capsys.readouterr().err


def test_check_tells_what_is_in_a_whole_model(capsys: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    assert cli.main(["check", str(tiny_model)]) == 0
    assert "200, 196 available" in capsys.readouterr().out
    assert cli.main(["check", "--json", str(tiny_model)]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 200


def test_check_names_the_file_that_is_damaged(
    capsys: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path
) -> None:
    import shutil

    damaged = tmp_path / "model"
    shutil.copytree(tiny_model, damaged)
    with (damaged / "embeddings.npy").open("r+b") as file:
        file.seek(200)
        file.write(b"\xff")
    assert cli.main(["check", str(damaged)]) == 2
    assert "embeddings.npy" in capsys.readouterr().err


def test_eval_prints_a_table_or_json(capsys: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path) -> None:
    sessions = tmp_path / "sessions.tsv"
    sessions.write_text("".join(f"item-{n} item-{n + 5}\titem-{n + 10}\n" for n in range(20)))
    arguments = ["eval", "--model", str(tiny_model), "--sessions", str(sessions), "-k", "10"]
    assert cli.main(arguments) == 0
    assert "HR@10" in capsys.readouterr().out
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["overall"]["count"] == 20
    assert cli.main([*arguments[:-1], "0"]) == 2


def test_a_column_option_is_ours_equals_theirs_or_refused() -> None:
    assert parse_columns(["item_id=Stock=Code", "value=Price"]) == {"item_id": "Stock=Code", "value": "Price"}
    for bad in (["item_id"], ["=x"], ["item_id="], ["a=b", "a=c"]):
        with pytest.raises(UsageError):
            parse_columns(bad)


def test_build_check_and_eval_work_on_one_another(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from tests.factories import tiny_log, write_event_file

    events, model = write_event_file(tmp_path / "events.csv", tiny_log(60, 80)), tmp_path / "model"
    assert cli.main(["build", "--events", str(events), "--out", str(model), "--dimensions", "8"]) == 0
    assert "54 in 0 categories" in capsys.readouterr().out
    assert cli.main(["check", str(model)]) == 0


def test_build_names_file_row_and_column_of_a_bad_row(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    events = tmp_path / "events.csv"
    events.write_text("event_type,session_id,item_id\nview,s,a\nstare,s,b\n")
    assert cli.main(["build", "--events", str(events), "--out", str(tmp_path / "model")]) == 2
    complaint = capsys.readouterr().err
    assert all(text in complaint for text in (str(events), "row 2", "event_type"))
    assert not (tmp_path / "model").exists()


def test_the_server_says_where_it_listens_and_ends_well_on_sigterm(tiny_model: Path, tmp_path: Path) -> None:
    state = f"embedded:{tmp_path / 'state.db'}"
    with started("--model", str(tiny_model), "--state", state, "--metrics-listen", "127.0.0.1:0") as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        assert first.startswith("recserv listening on 127.0.0.1:")
        url = second.removeprefix("recserv metrics on ").strip()
        with urllib.request.urlopen(url, timeout=HANG_GUARD_S) as response:
            assert b"recserv_model_info" in response.read()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=HANG_GUARD_S)
        assert process.returncode == 0
    messages = [json.loads(line)["message"] for line in log.splitlines()]
    assert messages == ["serving", "draining", "drained"]


def test_a_port_that_is_taken_is_exit_code_2(tiny_model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(
            *["serve", "--model", str(tiny_model), "--state", f"embedded:{tmp_path / 'state.db'}"],
            *["--listen", f"127.0.0.1:{port}", "--metrics-listen", "off"],
        )
    assert done.returncode == 2
    assert f"recserv serve: cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("flag", ["--listen", "--metrics-listen"])
def test_a_start_that_fails_for_an_address_leaves_no_file(
    flag: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addresses = {"--listen": "127.0.0.1:0", "--metrics-listen": "127.0.0.1:0"}
        addresses[flag] = f"127.0.0.1:{taken.getsockname()[1]}"
        where = [part for pair in addresses.items() for part in pair]
        assert cli.main(["serve", "--model", str(tiny_model), "--state", f"embedded:{state / 's.db'}", *where]) == 2
    told = capsys.readouterr().err
    assert addresses[flag] in told
    assert ("--metrics-listen" in told) is (flag == "--metrics-listen")
    assert list(state.iterdir()) == []


def test_help_lists_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(f"    {name}" in done.stdout for name in cli.COMMANDS)
