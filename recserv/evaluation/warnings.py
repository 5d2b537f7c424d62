"""Warnings that a person must read before believing a figure; empty if there is nothing to say."""

from __future__ import annotations

from recserv.evaluation.figures import EvaluationReport
from recserv.evaluation.questions import Questions
from recserv.model.snapshot import ModelSnapshot

SESSIONS_FEW = 1_000
HALF_WIDE = 0.02
UNKNOWN_SHARE = 0.05
TIED_SHARE = 0.5


def warnings_of(report: EvaluationReport, model: ModelSnapshot | None, questions: Questions) -> tuple[str, ...]:
    """`model` None: a server answered."""
    found = []
    if report.seen is not None and report.seen.warns:
        found.append(report.seen.text)
    if questions.said_wrongly:
        found.append(
            f"{questions.path.name}.json is about another file than this {questions.path.name}, so it was ignored."
        )
    half = report.hit_rate.half
    if report.sessions < SESSIONS_FEW or half > HALF_WIDE:
        found.append(
            f"The questions are about {report.sessions:,} sessions: HR@{report.k} is known to within {half:.3f} either"
            " way. Two models that differ by less may be equally good."
        )
    share = report.unknown_targets / max(report.overall.count, 1)
    if share > UNKNOWN_SHARE:
        found.append(
            f"{share:.0%} of the items asked for are not in the model, so no more than {1 - share:.0%} can be found:"
            " they are newer than it, or its catalogue lacks them."
        )
    ties = None if report.data is None else report.data.ties
    if model is not None and ties is not None and ties.share >= TIED_SHARE and not ties.kept and questions.said is None:
        found.append(
            "Most sessions that the model was built from have no order. If these lines come in the order of an export,"
            " the figures say how well that order is guessed; recserv build --holdout leaves items out of a basket"
            " instead."
        )
    if report.degraded:
        found.append(f"{report.degraded:,} answers were degraded: parts of the pipeline did not answer.")
    return tuple(found)
