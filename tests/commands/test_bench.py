from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recserv import v1 as pb
from recserv.bench.requests import bodies, made_up_prefixes, prefixes_of_file
from recserv.client import RecommendationClient
from recserv.commands import bench
from recserv.errors import DatasetError, UsageError
from tests.patience import HANG_GUARD_S

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess


def _run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    bench.register(parser.add_subparsers())
    args = parser.parse_args(["bench", f"--timeout={HANG_GUARD_S}", f"--duration={10 * HANG_GUARD_S}", *arguments])
    code: int = args.run(args)
    return code


def test_it_reports_the_server_beside_the_null_handler(
    recserv_server: ServerProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert _run("--target", recserv_server.target, "--requests", "40", "--concurrency", "2") == 0
    out = capsys.readouterr().out
    for words in ["recserv", "null handler", "ratio", "p50", "p99", "max", "Closed loop, 2 outstanding"]:
        assert words in out


def test_sessions_of_a_file_are_the_contexts(
    recserv_server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sessions = tmp_path / "sessions.tsv"
    sessions.write_text("a b\tc\nb\ta\n")
    options = ["--requests", "20", "--rate", "200", "--concurrency", "4", "--sessions", str(sessions)]
    assert _run("--target", recserv_server.target, *options) == 0
    assert "Open loop at 200 per second" in capsys.readouterr().out


def test_json_says_what_the_table_says(recserv_server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--requests", "40", "--rate", "200", "--poisson", "--concurrency", "8", "--json"]
    assert _run("--target", recserv_server.target, *options) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["load"] | {"loop": "open", "poisson": True, "rate_per_s": 200.0} == document["load"]
    for side in ("recserv", "null"):
        assert document[side]["statuses"] == {"OK": 40}
        assert document[side]["goodput_per_s"] > 0
        assert set(document[side]["latency_ms"]["OK"]) == {"p50", "p90", "p99", "p99.9", "max"}
    assert document["ratio"]["p50"] > 0


def test_a_target_elsewhere_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(UsageError, match="loopback"):
        _run("--target", "192.0.2.1:80")


def test_a_server_that_is_not_there_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--target", "127.0.0.1:1") == 1
    assert "UNAVAILABLE" in capsys.readouterr().err


def test_prefixes_are_read_plain_and_compressed_oldest_first(tmp_path: Path) -> None:
    plain, packed = tmp_path / "s.tsv", tmp_path / "s.tsv.gz"
    plain.write_text("a b\tc\nd\te\n")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert prefixes_of_file(plain) == prefixes_of_file(packed) == [["a", "b"], ["d"]]
    assert prefixes_of_file(plain, count=1) == [["a", "b"]]


@pytest.mark.parametrize(("text", "named"), [("", "is empty"), ("a\tb\n\tc\n", "row 2"), ("\n", "row 1")])
def test_a_bad_session_file_is_named_with_its_row(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "s.tsv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=named):
        prefixes_of_file(path)


def test_a_session_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    torn = tmp_path / "s.tsv.gz"
    torn.write_bytes(gzip.compress(b"a\tb\n" * 1000)[:40])
    for path in (tmp_path / "absent.tsv", torn):
        with pytest.raises(DatasetError, match="cannot be read"):
            prefixes_of_file(path)


def test_made_up_contexts_are_the_same_for_the_same_model_and_known_to_it(recserv_server: ServerProcess) -> None:
    with RecommendationClient(recserv_server.target, HANG_GUARD_S) as client:
        prefixes = made_up_prefixes(client, count=50)
        assert prefixes == made_up_prefixes(client, count=50)
    assert all(1 <= len(prefix) <= 6 for prefix in prefixes)
    requests = [pb.RecommendRequest.FromString(body) for body in bodies(prefixes, page_size=5)]
    assert [[event.item_id for event in request.context_events] for request in requests] == prefixes
    assert {request.page_size for request in requests} == {5}
