"""What a reader must know is said in words, and only then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from recserv.evaluation.figures import EvaluationReport
from recserv.evaluation.intervals import Interval
from recserv.evaluation.questions import Questions, read_questions
from recserv.evaluation.report import evaluate
from recserv.evaluation.warnings import warnings_of
from recserv.model.data_report import DataReport, TieReport
from recserv.model.snapshot import ModelSnapshot, load_snapshot


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Questions:
    path = tmp_path_factory.mktemp("warned") / "q.tsv"
    path.write_text("".join(f"item-{n} item-{n + 1}\titem-{n + 2}\n" for n in range(40)))
    return read_questions(path)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> ModelSnapshot:
    return load_snapshot(tiny_model)


@pytest.fixture(scope="module")
def fine(tiny_model: Path, questions: Questions) -> EvaluationReport:
    """Of many sessions, all known, none seen."""
    report = evaluate(tiny_model, questions.path)
    return msgspec.structs.replace(report, sessions=50_000, hit_rate=Interval(0.3, 0.295, 0.305), seen=None, degraded=0)


def test_a_sound_evaluation_has_no_warnings(fine: EvaluationReport, model: ModelSnapshot, questions: Questions) -> None:
    assert warnings_of(fine, model, questions) == ()


def test_few_sessions_say_how_little_they_can_tell(
    fine: EvaluationReport, model: ModelSnapshot, questions: Questions
) -> None:
    few = msgspec.structs.replace(fine, sessions=40, hit_rate=Interval(0.3, 0.2, 0.4))
    assert "40 sessions: HR@20 is known to within 0.100" in warnings_of(few, model, questions)[0]


def test_items_that_the_model_lacks_bound_what_can_be_found(
    fine: EvaluationReport, model: ModelSnapshot, questions: Questions
) -> None:
    lacking = msgspec.structs.replace(fine, unknown_targets=fine.overall.count // 4)
    assert "25% of the items asked for are not in the model" in warnings_of(lacking, model, questions)[0]


def test_a_file_of_lines_is_doubted_where_the_models_sessions_have_no_order(
    fine: EvaluationReport, model: ModelSnapshot, questions: Questions
) -> None:
    ties = TieReport(sessions=9, share=0.9, reason="rule", kept=False)
    loose = msgspec.structs.replace(fine, data=DataReport(ties=ties))
    assert "have no order" in warnings_of(loose, model, questions)[0]
    kept = msgspec.structs.replace(fine, data=DataReport(ties=msgspec.structs.replace(ties, kept=True)))
    assert warnings_of(kept, model, questions) == ()


def test_a_note_about_another_file_is_mentioned(
    fine: EvaluationReport, model: ModelSnapshot, questions: Questions
) -> None:
    assert "another file" in warnings_of(fine, model, replace(questions, said_wrongly=True))[0]


def test_sources_beside_the_whole_are_what_they_are_alone(tiny_model: Path, questions: Questions) -> None:
    from recserv.evaluation.ablation import Ablation

    report = evaluate(tiny_model, questions.path, sources=True)
    assert [one.name for one in report.sources] == ["covisitation", "session_knn", "popular"]
    for one in report.sources:
        alone = evaluate(tiny_model, questions.path, ablation=Ablation(only=one.name))
        assert one.at[-1].hit_rate.value == alone.overall.hit_rate
        assert one.at[-1].reciprocal_rank.value == pytest.approx(alone.overall.reciprocal_rank)
        assert one.coverage == alone.coverage
        less = report.overall.hit_rate - alone.overall.hit_rate
        assert one.hit_rate_less.value == pytest.approx(less)
    assert report.overall == evaluate(tiny_model, questions.path).overall


def test_figures_at_five_and_ten_are_those_of_a_shorter_list(tiny_model: Path, questions: Questions) -> None:
    report = evaluate(tiny_model, questions.path, k=20)
    for at in report.at:
        shorter = evaluate(tiny_model, questions.path, k=at.k).overall
        assert at.hit_rate.value == shorter.hit_rate
        assert at.ndcg.value == pytest.approx(shorter.ndcg)
