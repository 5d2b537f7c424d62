"""Figures of a model, through the pipeline and through a server."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from recserv.app.server_process import ServerProcess
from recserv.client import RecommendationClient
from recserv.commands.eval import SOURCES as EVAL_SOURCES
from recserv.errors import DatasetError
from recserv.evaluation.ablation import SOURCES, Ablation
from recserv.evaluation.report import evaluate, evaluate_server


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    path = tmp_path_factory.mktemp("eval") / "sessions.tsv"
    lines = [f"item-{n % 40} item-{(n * 7) % 60}\titem-{(n * 3) % 50}\n" for n in range(150)]
    path.write_text("".join([*lines, "item-1\tnever-heard-of\n"]))
    return path


def test_every_prefix_counts_and_an_unknown_target_is_a_miss(tiny_model: Path, sessions: Path) -> None:
    report = evaluate(tiny_model, sessions, k=20)
    assert report.overall.count == report.new.count + report.repeats.count == 151
    assert 0 < report.overall.reciprocal_rank <= report.overall.hit_rate < 1
    assert 0 < report.coverage <= 1
    assert 0 < report.engine_us_median < report.request_us_median
    assert report.degraded == 0


def test_a_server_gives_the_same_figures(tiny_model: Path, sessions: Path, recserv_server: ServerProcess) -> None:
    with RecommendationClient(recserv_server.target) as client:
        through = evaluate_server(client.recommend, sessions, k=20)
    alone = evaluate(tiny_model, sessions, k=20)
    assert through.overall == alone.overall
    assert (through.shown, through.model_version) == (alone.shown, alone.model_version)


@pytest.mark.parametrize("line", ["item-1 item-2\n", "\titem-1\n", "item-1\t\n"])
def test_a_line_that_is_no_prefix_and_target_is_named(tiny_model: Path, tmp_path: Path, line: str) -> None:
    path = tmp_path / "sessions.tsv.gz"
    path.write_bytes(gzip.compress(f"item-1\titem-2\n{line}".encode()))
    with pytest.raises(DatasetError, match="row 2"):
        evaluate(tiny_model, path)


def test_in_the_graph_much_the_same_is_found_as_in_lists(tiny_model: Path, sessions: Path) -> None:
    lists, graph = (evaluate(tiny_model, sessions, ablation=Ablation(graph=graph)).overall for graph in (False, True))
    assert graph.hit_rate == pytest.approx(lists.hit_rate, abs=0.02)


def test_each_source_answers_alone_and_can_be_left_out(tiny_model: Path, sessions: Path) -> None:
    assert EVAL_SOURCES == SOURCES
    alone = {name: evaluate(tiny_model, sessions, ablation=Ablation(only=name)).overall for name in SOURCES}
    assert len({figures.reciprocal_rank for figures in alone.values()}) == len(SOURCES)
    for name in SOURCES:
        report = evaluate(tiny_model, sessions, ablation=Ablation(without=name, fixed_weights=True))
        assert report.overall.count == 151
        assert report.degraded == 0
