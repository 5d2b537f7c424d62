"""The newest sessions, kept from a model and made into questions that `recserv eval` takes."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from recserv import cli
from recserv.errors import DatasetError, UsageError
from recserv.evaluation.report import read_prefixes
from recserv.model.data_report import HoldoutReport
from recserv.model.snapshot import load_snapshot
from recserv.training.dataset import EventLog
from recserv.training.options import BuildOptions
from recserv.training.set_aside import Newest, SetAside, parse_newest, set_aside, sidecar_of, split_newest
from recserv.types import EventType
from tests.factories import tiny_log, write_event_file

DAY_MS = 24 * 3600 * 1000


def log_of(sessions: list[list[str]], *, times: list[list[int]] | None = None) -> EventLog:
    """Views; `times` in days."""
    ids = sorted({item for items in sessions for item in items})
    return EventLog(
        item_ids=ids,
        session_count=len(sessions),
        session=np.repeat(np.arange(len(sessions), dtype=np.int32), [len(items) for items in sessions]),
        item=np.array([ids.index(item) for items in sessions for item in items], np.int32),
        event_type=np.full(sum(map(len, sessions)), EventType.VIEW, np.uint8),
        time_ms=None if times is None else np.array([DAY_MS * at for one in times for at in one], np.int64),
    )


def aside(log: EventLog, path: Path = Path("held.tsv")) -> SetAside:
    return set_aside(log, Newest("5%", share=0.05), path, ("shop/events.csv",), seed=0)


def lines(held: SetAside) -> list[str]:
    return held.content.decode().splitlines()


def test_the_newest_are_those_that_ended_last_and_go_whole() -> None:
    log = log_of([["a", "b"], ["c", "d"], ["e", "f"]], times=[[1, 90], [50, 51], [60, 61]])
    older, newer = split_newest(log, parse_newest("34%"), "events.csv")
    assert (older.item_ids, newer.item_ids) == (["c", "d", "e", "f"], ["a", "b"])
    older, newer = split_newest(log, parse_newest("1970-03-02"), "events.csv")
    assert (older.item_ids, newer.item_ids) == (["c", "d"], ["a", "b", "e", "f"])


def test_without_times_the_last_rows_are_the_newest() -> None:
    older, newer = split_newest(log_of([["a", "b"], ["c"], ["d", "e"]]), parse_newest("33%"), "events.csv")
    assert (older.item_ids, newer.item_ids) == (["a", "b", "c"], ["d", "e"])
    with pytest.raises(DatasetError, match="needs event times"):
        split_newest(log_of([["a", "b"]]), parse_newest("2024-01-01"), "events.csv")


@pytest.mark.parametrize("text", ["5", "0%", "51%", "soon", "5 sessions", "-3%"])
def test_what_is_neither_a_share_nor_a_day_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(UsageError, match=r"--holdout"):
        parse_newest(text)


@pytest.mark.parametrize(("text", "what"), [("2031-01-01", "no session"), ("1970-01-01", "all sessions")])
def test_a_day_that_leaves_nothing_on_one_side_is_refused_with_the_days_there_are(text: str, what: str) -> None:
    log = log_of([["a", "b"], ["c", "d"]], times=[[1, 2], [3, 4]])
    with pytest.raises(DatasetError, match=f"{what}; the events are from 1970-01-02 to 1970-01-05"):
        split_newest(log, parse_newest(text), "events.csv")


def test_a_session_in_order_is_asked_for_each_next_item_and_one_of_a_single_item_for_none() -> None:
    held = aside(log_of([["a", "b", "b", "c"], ["d"], ["e", "e"]], times=[[1, 2, 3, 4], [5], [6, 7]]))
    assert lines(held) == ["a\tb", "a b\tc"]
    assert (held.report.sessions, held.report.sessions_asked, held.report.questions) == (3, 1, 2)
    assert held.report.events == ("events.csv",)


def test_of_a_basket_without_order_items_are_left_out_in_turn() -> None:
    log = log_of([["a", "b", "c", "a"], [f"i{n}" for n in range(9)]], times=[[1] * 4, [2] * 9])
    held = aside(replace(log, ties="none", event_type=np.full(len(log), EventType.PURCHASE, np.uint8)))
    asked = [(set(line.split("\t")[0].split()), line.split("\t")[1]) for line in lines(held)]
    assert [one for one in asked if one[1] in "abc"] == [({"a", "b", "c"} - {x}, x) for x in [t for _, t in asked[:3]]]
    assert sorted(target for _, target in asked[:3]) == ["a", "b", "c"]
    assert len(asked) == 3 + 5
    assert all(len(context) == 8 and target not in context for context, target in asked[3:])
    assert held.report.sessions_without_order == 2


def test_ids_with_blanks_cannot_be_asked_about_and_are_counted() -> None:
    held = aside(log_of([["a", "bank charges", "b"]], times=[[1, 2, 3]]))
    assert lines(held) == ["a\tb"]
    assert held.report.rows_with_blanks == 1
    with pytest.raises(DatasetError, match="two different items"):
        aside(log_of([["a", "bank charges"]], times=[[1, 2]]))


def test_the_file_and_what_it_says_of_itself(tmp_path: Path) -> None:
    held = aside(log_of([["a", "b"]], times=[[1, 2]]), tmp_path / "held.tsv.gz")
    held.write()
    assert gzip.decompress(held.path.read_bytes()) == b"a\tb\n"
    said = msgspec.json.decode(sidecar_of(held.path).read_bytes(), type=HoldoutReport)
    assert said == held.report
    assert said.sha256 == hashlib.sha256(held.path.read_bytes()).hexdigest()
    assert (said.first_end_ms, said.last_end_ms) == (2 * DAY_MS, 2 * DAY_MS)
    assert aside(log_of([["a", "b"]], times=[[1, 2]]), tmp_path / "held.tsv.gz").content == held.content


def test_a_build_keeps_them_from_the_model_and_eval_takes_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = write_event_file(tmp_path / "events.csv", tiny_log(40, 120))
    quick = ["--dimensions", "4", "--epochs", "0", "--rank-examples", "0"]
    out = tmp_path / "model"
    assert cli.main(["build", "--events", str(events), "--out", str(out), "--holdout", "10%", *quick]) == 0
    told = capsys.readouterr().out
    path = tmp_path / "model.holdout.tsv"
    assert f"recserv eval --model {out} --sessions {path}" in told
    assert "the newest 12 sessions" in told
    assert "to serve a model that knows the newest sessions too" in told
    manifest = load_snapshot(out).manifest
    held = None if isinstance(manifest.data, msgspec.UnsetType) else manifest.data.holdout
    assert held is not None
    assert manifest.training.sessions == 108
    assert manifest.training.last_event_ms is not None
    assert held.first_end_ms is not None
    assert manifest.training.last_event_ms < held.first_end_ms
    assert held.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(list(read_prefixes(path))) == held.questions


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--holdout-to", "x.tsv"], "needs --holdout"),
        (["--holdout", "5%", "--holdout-to", "no/x.tsv"], "no such folder"),
    ],
)
def test_where_the_file_goes_is_checked_before_anything_is_read(
    options: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["build", "--events", "nowhere.csv", "--out", str(tmp_path / "m"), *options]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model/held.tsv", "link/held.tsv", "folder", "events.csv"])
def test_the_file_of_questions_must_not_be_lost_with_the_model_nor_take_the_place_of_the_events(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    events = tmp_path / "events.csv"
    write_event_file(events, tiny_log(12, 20))
    before = events.read_bytes()
    for folder in ("model", "folder"):
        (tmp_path / folder).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "model")
    out = ["--out", str(tmp_path / "model"), "--holdout", "20%", "--holdout-to", str(tmp_path / name)]
    assert cli.main(["build", "--events", str(events), *out]) == 2
    assert "--holdout-to" in capsys.readouterr().err
    assert events.read_bytes() == before


def test_the_file_of_a_model_in_the_working_folder_lies_beside_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    for out in (".", "../shop", "../shop/"):
        options = BuildOptions(events=("e.csv",), out=out, holdout=parse_newest("5%"))
        assert options.holdout_path().resolve() == tmp_path / "shop.holdout.tsv"
