"""What a full build recommends on real sessions, through the pipeline and through a server in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from recserv.app.server_process import ServerProcess
from recserv.client import RecommendationClient
from recserv.evaluation.report import evaluate, evaluate_server
from recserv.training.build import build
from recserv.training.options import BuildOptions

DATA = Path(__file__).parents[3] / "shared" / "data" / "diginetica"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="the data lies beside the checkout, where there is one")
def test_a_full_build_finds_more_next_items_than_the_published_models(tmp_path: Path) -> None:
    model = tmp_path / "model"
    report = build(BuildOptions(events=(str(DATA / "train_sessions.txt.gz"),), out=str(model)))
    assert report.ranker is not None
    assert report.ranker.chosen
    sessions = DATA / "test_prefix_target.tsv.gz"
    figures = evaluate(model, sessions)
    print(f"\n{figures}")
    assert figures.overall.count == 60_858
    assert figures.overall.hit_rate >= 0.565
    assert figures.overall.reciprocal_rank >= 0.206
    assert figures.degraded == 0
    with ServerProcess.started(model, tmp_path / "state.db") as server, RecommendationClient(server.target) as client:
        served = evaluate_server(client.recommend, sessions)
    # A moment of a busy machine may degrade one answer of sixty thousand.
    assert served.overall.count == figures.overall.count
    assert served.overall.hit_rate == pytest.approx(figures.overall.hit_rate, abs=0.002)
    assert served.overall.reciprocal_rank == pytest.approx(figures.overall.reciprocal_rank, abs=0.002)
