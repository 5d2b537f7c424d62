"""The README's walk: from a wholesaler's raw export to a page, in four commands and without a guess."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from recserv import cli
from recserv.evaluation.figures import EvaluationReport
from tests.project_files import ROOT

DATA = Path(__file__).parents[3] / "shared" / "data" / "online_retail" / "online_retail_2009_2010.parquet"


def walk() -> list[list[str]]:
    """The commands of the first block that names the export."""
    lines = [line.partition("#")[0] for line in (ROOT / "README.md").read_text().splitlines()]
    first = next(at for at, line in enumerate(lines) if line.startswith("recserv inspect online_retail.parquet"))
    return [shlex.split(line)[1:] for line in lines[first : first + 4]]


def test_the_walk_has_four_commands_and_ends_with_a_page() -> None:
    assert [command[0] for command in walk()] == ["inspect", "build", "check", "eval"]
    assert walk()[-1][-2:] == ["--report", "eval.html"]


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="the data lies beside the checkout, where there is one")
def test_the_walk_ends_with_a_page_that_says_more_than_popularity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(DATA, tmp_path / "online_retail.parquet")
    *before, ask = walk()
    for command in before:
        assert cli.main(command) == 0, command
    told = capsys.readouterr().out
    assert "10,209 if session_id ~ ^[AC]; 2,121 if quantity <= 0; 1,566 if value <= 0" in told
    assert "the newest 1,029 sessions" in told
    assert cli.main([*ask, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(EvaluationReport.__struct_fields__) == set(report)
    assert report["seen"]["verdict"] == "kept"
    assert report["overall"]["count"] == 4_378
    popular = next(one for one in report["sources"] if one["name"] == "popular")
    # .332 without the catalogue: what titles say must not cost what sessions say.
    assert report["overall"]["hit_rate"] >= 0.32
    assert popular["hit_rate_less"]["low"] > 0.15
    assert "REGENCY CAKESTAND 3 TIER" in (tmp_path / "eval.html").read_text()
