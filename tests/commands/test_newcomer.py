"""What somebody gets wrong in the first hour: one line each, with the flag or the step that mends it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from recserv import cli
from recserv.app.server_process import ServerProcess

PLAIN = "session_id,item_id\n1,a\n1,b\n2,a\n2,b\n"
TYPED = "event_type,session_id,item_id\nview,1,a\nview,1,b\nview,2,a\n"


class Mistake(NamedTuple):
    """Of a command line in a folder with the files of `folder`; `told` must all stand in the one line of the answer."""

    command: str
    told: tuple[str, ...]


MISTAKES = {
    "no event type": Mistake(
        "build --events plain.csv --out m",
        ("column event_type", "--default-event-type purchase (or view)", "recserv inspect plain.csv"),
    ),
    "an event type of another name": Mistake(
        "build --events action.csv --out m", ("column event_type", "--column event_type=action", "--default-event-type")
    ),
    "a session of another name": Mistake("build --events visits.csv --out m", ("--column session_id=visit",)),
    "a catalogue without ids": Mistake(
        "build --events typed.csv --catalog titles.csv --out m", ("titles.csv", "--catalog-column item_id=sku")
    ),
    "no such events": Mistake("build --events nowhere.csv --out m", ("nowhere.csv: no such file",)),
    "no such catalogue": Mistake(
        "build --events typed.csv --catalog nowhere.csv --out m", ("nowhere.csv: no such file",)
    ),
    "a report into no folder": Mistake(
        "build --events typed.csv --out m --report no/r.json", ("--report no/r.json: no such folder",)
    ),
    "a share without its sign": Mistake("build --events typed.csv --out m --holdout 5", ("such as 5%",)),
    "no such model": Mistake("eval --model nowhere --sessions q.tsv", ("recserv build --out nowhere",)),
    "no such model to serve": Mistake("serve --model nowhere", ("recserv build --out nowhere",)),
    "a folder beside the model": Mistake(
        "eval --model . --sessions q.tsv", ("no folder that recserv build wrote", "did you mean model?")
    ),
    "a folder that is none": Mistake("serve --model empty", ("no folder that recserv build wrote",)),
    "a model of an older format": Mistake(
        "eval --model older --sessions q.tsv", ("format version 1", "build the model again")
    ),
    "no such sessions": Mistake("eval --model model --sessions nowhere.tsv", ("recserv build --holdout 5%",)),
    "events in place of sessions": Mistake("eval --model model --sessions typed.csv", ("recserv build --holdout 5%",)),
    "sessions of another shop": Mistake(
        "eval --model model --sessions strangers.tsv",
        ("none of the targets is an item of the model: 'y'", "the model has 'item-", "this shop's events"),
    ),
    "nobody to evaluate": Mistake(
        "eval --target 127.0.0.1:1 --sessions q.tsv", ("UNAVAILABLE", "recserv serve --model MODEL_DIR")
    ),
    "a server without its port": Mistake(
        "eval --target localhost --sessions q.tsv", ("give HOST:PORT, such as 127.0.0.1:50051",)
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("newcomer")
    files = {
        "plain.csv": PLAIN,
        "typed.csv": TYPED,
        "action.csv": TYPED.replace("event_type", "action"),
        "visits.csv": TYPED.replace("session_id", "visit"),
        "titles.csv": "sku,title\na,Lamp\nb,Pot\n",
        "q.tsv": "item-1 item-2\titem-3\n",
        "strangers.tsv": "x\ty\n",
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    (folder / "empty").mkdir()
    shutil.copytree(tiny_model, folder / "model")
    shutil.copytree(tiny_model, folder / "older")
    _reseal(folder / "older", format_version=1)
    return folder


def _reseal(model: Path, **changes: object) -> None:
    from recserv.model.manifest import encode_seal

    content = json.loads((model / "manifest.json").read_bytes()) | changes
    data = json.dumps(content).encode()
    (model / "manifest.json").write_bytes(data)
    (model / "seal.json").write_bytes(encode_seal(data, 0))


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_answered_in_one_line_with_what_mends_it(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    mistake = MISTAKES[name]
    assert cli.main(mistake.command.split()) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("recserv ")]
    assert len(lines) == 1
    assert [word for word in mistake.told if word not in lines[0]] == []
    assert not (folder / "m").exists()


def test_a_catalogue_that_cannot_be_one_is_refused_before_the_events_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("read the events first")

    monkeypatch.chdir(folder)
    monkeypatch.setattr("recserv.training.build.read_events", read)
    assert cli.main(["build", "--events", "typed.csv", "--catalog", "titles.csv", "--out", "m"]) == 2
    assert "titles.csv, column item_id" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["query", "explain"])
def test_a_server_that_is_not_there_is_said_to_be_none(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--target", "127.0.0.1:1", "--view", "item-1"]) == 1
    told = capsys.readouterr().err
    assert "UNAVAILABLE from 127.0.0.1:1" in told
    assert "recserv serve --model MODEL_DIR" in told


def test_ids_of_another_shop_are_answered_with_some_of_this_one(
    recserv_server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["query", "--target", recserv_server.target, "--view", "1082185"]) == 0
    told = capsys.readouterr().out
    assert "not in the model: 1082185" in told
    assert "its item ids look like item-" in told


def test_a_server_of_another_shop_is_no_zero(
    recserv_server: ServerProcess, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["eval", "--target", recserv_server.target, "--sessions", str(folder / "strangers.tsv")]
    assert cli.main(asked) == 2
    told = capsys.readouterr().err
    assert "the server's model has no item of the first 1 lines: 'x'; it recommends 'item-" in told


def test_a_manifest_with_fields_of_later_days_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newer = folder / "newer"
    shutil.copytree(folder / "model", newer)
    _reseal(newer, holograms=True)
    assert cli.main(["eval", "--model", str(newer), "--sessions", str(folder / "q.tsv")]) == 2
    assert "it may be of a newer recserv" in capsys.readouterr().err
