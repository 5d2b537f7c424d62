"""`recserv build` on bad files: exit code 2 with file, row and column named, or counted and left out if asked."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from recserv import cli

EVENT_HEADER = "event_type,session_id,item_id,event_time,value\n"
# Enough for a model: three sessions over four items.
EVENT_ROWS = "".join(
    f"view,s{session},item-{(session + step) % 4},{1_700_000_000 + 60 * step},1\n"
    for session in range(3)
    for step in range(3)
)
CATALOG = "item_id,title,price\n" + "".join(f"item-{n},Lamp {n},{n}.5\n" for n in range(4))


class Case(NamedTuple):
    """`events` or `catalog` is what the file holds; `row`, `column`: what must be named. A row can be skipped."""

    events: bytes | str = EVENT_HEADER + EVENT_ROWS
    catalog: bytes | str = CATALOG
    file: str = "events.csv"
    row: int | None = None
    column: str = ""


CASES = {
    "missing column": Case(events="event_type,item_id\nview,a\n", column="session_id"),
    "unknown event type": Case(EVENT_HEADER + "stare,s,a,1700000000,1\n" + EVENT_ROWS, row=1, column="event_type"),
    "bad time": Case(EVENT_HEADER + EVENT_ROWS + "view,s,a,noon,1\n", row=10, column="event_time"),
    "negative value": Case(EVENT_HEADER + EVENT_ROWS + "view,s,a,1700000000,-1\n", row=10, column="value"),
    "not UTF-8": Case((EVENT_HEADER + EVENT_ROWS).encode() + b"view,s,\xff,1700000000,1\n", row=10, column="item_id"),
    "empty file": Case(events=""),
    "header alone": Case(events=EVENT_HEADER),
    "duplicate item id": Case(catalog=CATALOG + "item-1,Lamp,1\n", file="catalog.csv", row=5, column="item_id"),
    "empty catalogue": Case(catalog="", file="catalog.csv"),
    "catalogue without ids": Case(catalog="title\nLamp\n", file="catalog.csv", column="item_id"),
    "catalogue not UTF-8": Case(
        catalog=CATALOG.encode() + b"item-9,caf\xe9,1\n", file="catalog.csv", row=5, column="title"
    ),
}
SKIPPABLE = [name for name, case in CASES.items() if case.row is not None]


def build(folder: Path, case: Case, *options: str) -> int:
    for name, content in (("events.csv", case.events), ("catalog.csv", case.catalog)):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    files = ["--events", str(folder / "events.csv"), "--catalog", str(folder / "catalog.csv")]
    return cli.main(["build", *files, "--out", str(folder / "model"), "--dimensions", "4", *options])


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_exit_code_2_and_names_its_place(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    assert build(tmp_path, case) == 2
    complaint = capsys.readouterr().err
    assert f"recserv build: {tmp_path / case.file}" in complaint
    assert case.column in complaint
    assert case.row is None or f"row {case.row}, column {case.column}:" in complaint
    assert "Traceback" not in complaint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog.csv", "events.csv"]


@pytest.mark.parametrize("name", SKIPPABLE)
def test_bad_rows_are_counted_and_reported_if_asked(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    assert build(tmp_path, case, "--skip-bad-rows") == 0
    told = capsys.readouterr().out
    assert "1 bad rows skipped:" in told
    assert f"1 in {case.file}, column {case.column}:" in told
    assert f"first in row {case.row}" in told
    assert cli.main(["check", str(tmp_path / "model")]) == 0
    assert "1 bad rows were skipped" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(set(CASES) - set(SKIPPABLE)))
def test_what_is_wrong_with_a_whole_file_cannot_be_skipped(name: str, tmp_path: Path) -> None:
    assert build(tmp_path, CASES[name], "--skip-bad-rows") == 2
    assert not (tmp_path / "model").exists()


def test_a_failed_build_leaves_the_model_that_was_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(tmp_path, Case()) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert build(tmp_path, CASES["bad time"]) == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    capsys.readouterr()
    assert cli.main(["check", str(tmp_path / "model")]) == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--dimensions", "0"], "dimensions"),
        (["--dimensions", "-3"], "dimensions"),
        (["--seed", "-1"], "seed"),
        (["--default-event-type", "stare"], "stare"),
        (["--column", "colour=Colour"], "colour"),
    ],
)
def test_an_option_that_makes_no_sense_is_exit_code_2_and_named(
    options: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(tmp_path, Case(), *options) == 2
    assert text in capsys.readouterr().err


def test_the_report_says_what_becomes_of_users_amounts_and_returns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = EVENT_HEADER.replace("value", "value,user_id,quantity")
    rows = EVENT_ROWS.replace(",1\n", ",1,u7,2\n")
    returned = "purchase,s0,item-1,1700000000,-1,u7,-1\n"
    assert build(tmp_path, Case(header + rows + returned)) == 0
    told = capsys.readouterr().out
    assert "note      user_id: a model is of sessions, not of users; `recserv import`" in told
    assert "note      quantity: how many makes no difference" in told
    assert "note      value: not used by the model" in told
    assert "note      1 rows with a negative quantity are returns: left out" in told
    assert "not used" not in told.replace("not used by the model", "")


def test_returns_are_seen_before_anything_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.csv"
    path.write_text("event_type,session_id,item_id,quantity\npurchase,s,a,2\npurchase,s,a,-2\n")
    assert cli.main(["inspect", str(path)]) == 0
    told = capsys.readouterr().out
    assert "returns: 1 rows with a negative quantity, which a build leaves out" in told
    assert "bad rows" not in told
