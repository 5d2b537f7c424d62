"""The page of an evaluation: whole in itself, the same for the same report, and text whatever the shop's files hold."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from recserv import cli
from recserv.evaluation.examples import Example, Product, Suggested
from recserv.evaluation.figures import EvaluationReport
from recserv.evaluation.page import page
from recserv.evaluation.report import evaluate
from tests.factories import tiny_log

HOSTILE = [
    "</style><script>alert(1)</script>",
    '" onmouseover="x',
    "<img src=http://x.example/>",
    "a & b < c",
    "\u202eevil",
]
VOID = {"meta", "rect", "path"}


class Reader(HTMLParser):
    """Every element is closed where it must be; what is in it."""

    def __init__(self, content: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "sessions.tsv"
    log = tiny_log(200, 150, seed=9)
    sessions = [[log.item_ids[code] for code in log.item[log.session == number]] for number in range(150)]
    lines = [f"{' '.join(items[:2])}\t{items[2]}\n" for items in sessions if len(items) > 2]
    path.write_text("".join([*lines, "item-1\tnever-heard-of\n"]))
    return path


@pytest.fixture(scope="module")
def report(tiny_model: Path, questions: Path) -> EvaluationReport:
    return evaluate(tiny_model, questions, sources=True, examples=8)


def test_the_page_says_the_figures_the_parts_and_what_to_believe(report: EvaluationReport) -> None:
    read = Reader(page(report))
    assert read.open == []
    assert f"{report.overall.hit_rate:.1%}" in read.said
    for name in ("All together", "Co-visitation alone", "Session-kNN alone", "Popularity alone"):
        assert name in read.said
    assert read.tags.count("svg") == 4
    assert read.tags.count("article") == len(report.examples) == 8
    assert "Not in the model, so never found 1" in read.said
    assert f"questions about {report.sessions} sessions" in read.said
    for warning in report.warnings:
        assert warning in read.said


def test_the_page_has_no_scripts_and_loads_nothing(report: EvaluationReport) -> None:
    content = page(report)
    read = Reader(content)
    assert {"script", "link", "img", "iframe", "form", "object"} & set(read.tags) == set()
    assert {name for name, _ in read.attributes} & {"src", "href", "srcset", "action", "onload", "style"} == set()
    assert re.findall(r"https?:|url\(|@import", content) == []
    assert "default-src 'none'" in content


def test_tables_and_pictures_can_be_read_aloud(report: EvaluationReport) -> None:
    content = page(report)
    read = Reader(content)
    named = dict(read.attributes)
    assert named["lang"] == "en"
    assert read.tags.count("figcaption") == read.tags.count("table") == 2
    assert content.count('<svg role="img" aria-label="') == 4
    assert content.count('scope="col"') == 7 + 4
    assert re.search(r"All together: HR@20 0\.\d{3}, 0\.\d{3} to 0\.\d{3}", content)
    assert "prefers-color-scheme: dark" in content
    assert 'name="viewport"' in content


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_product_names_are_escaped_to_text(report: EvaluationReport, name: str) -> None:
    product = Product(item_id=name, title=name)
    example = Example((product,), 3, (Suggested(product, "popular", chosen=True),), product, 1, "")
    spoilt = msgspec.structs.replace(report, examples=(example,), file=name, model_version=name)
    read = Reader(page(spoilt))
    assert read.open == []
    assert read.tags == Reader(page(msgspec.structs.replace(report, examples=(example,)))).tags
    assert not any(attribute.startswith("on") for attribute, _ in read.attributes)
    assert " ".join(name.split()) in read.said


def test_the_same_evaluation_gives_the_same_bytes(tiny_model: Path, questions: Path, report: EvaluationReport) -> None:
    assert page(evaluate(tiny_model, questions, sources=True, examples=8)) == page(report)


def test_examples_are_of_different_sessions_with_good_and_bad_ones_by_turns(report: EvaluationReport) -> None:
    early = [0 < example.rank <= 3 for example in report.examples]
    assert {True, False} <= set(early[:4])
    assert len({example.target.item_id for example in report.examples}) == len(report.examples)
    assert all(one.title for example in report.examples for one in example.context)
    found = [one for example in report.examples if 0 < example.rank <= 10 for one in example.suggested if one.chosen]
    assert len(found) == sum(0 < example.rank <= 10 for example in report.examples) > 0


def test_eval_report_writes_the_page_and_prints_its_path(
    tiny_model: Path, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "eval.html"
    asked = ["eval", "--model", str(tiny_model), "--sessions", str(questions)]
    assert cli.main([*asked, "--report", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"written: {out}" in told
    assert "co-visitation" in told
    assert Reader(out.read_text()).open == []
    assert cli.main([*asked, "--report", str(tmp_path / "no" / "eval.html")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_report_of_a_server_has_a_page_too(report: EvaluationReport) -> None:
    bare = msgspec.structs.replace(
        report, sources=(), examples=(), data=None, training=None, seen=None, coverage_20=0.0
    )
    read = Reader(page(bare))
    assert read.tags.count("svg") == 1
    assert "unknown" in read.said


def test_what_is_left_of_the_pipeline_is_named_where_it_is_not_all(tiny_model: Path, questions: Path) -> None:
    from recserv.evaluation.ablation import Ablation

    read = Reader(page(evaluate(tiny_model, questions, ablation=Ablation(only="popular"))))
    assert "Popular alone" in read.said
    assert "All together" not in read.said
