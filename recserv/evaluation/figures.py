"""The results of an evaluation as data: for the terminal, for JSON, and for the HTML `page`."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from recserv.evaluation.examples import Example
from recserv.evaluation.intervals import Interval, of_difference
from recserv.evaluation.metrics import MetricsAt, NextItemMetrics, Ranks, metrics_at, reciprocal_ranks, within
from recserv.evaluation.questions import Questions
from recserv.evaluation.seen import Seen
from recserv.model.data_report import DataReport, HoldoutReport
from recserv.model.manifest import TrainingSummary
from recserv.model.snapshot import ModelSnapshot

KS = (5, 10, 20)
NO_METRICS = NextItemMetrics(0, 0.0, 0.0, 0.0)


class SourceFigures(msgspec.Struct, frozen=True):
    """One source alone, by its own scores. `hit_rate_less`, `reciprocal_rank_less`: the whole less the source, at 20,
    on the same questions. `coverage`: the share of the model's items among its first 20.
    """

    name: str
    at: tuple[MetricsAt, ...]
    hit_rate_less: Interval
    reciprocal_rank_less: Interval
    coverage: float


def source_figures(
    name: str, ranks: Ranks, whole: Ranks, session: npt.NDArray[np.int64], coverage: float
) -> SourceFigures:
    ranks, whole = within(ranks, KS[-1]), within(whole, KS[-1])
    hits, hits_whole = (ranks > 0).astype(np.float64), (whole > 0).astype(np.float64)
    return SourceFigures(
        name=name,
        at=tuple(metrics_at(ranks, session, k) for k in KS),
        hit_rate_less=of_difference(hits_whole, hits, session),
        reciprocal_rank_less=of_difference(reciprocal_ranks(whole), reciprocal_ranks(ranks), session),
        coverage=coverage,
    )


class EvaluationReport(msgspec.Struct, frozen=True):
    """`repeats`: targets that the prefix already holds; `new`: the others; `rare`: those that few sessions of the model
    hold (`TargetKinds`). Times are of one request at a time: through the pipeline, or through a server and the network
    to it. `engine_us_median`: of it the search, the sources and the ranking; 0 where a server answered. `shown`: how
    many different items were recommended; `coverage`: as a share of the model's, 0 where the model is not at hand;
    `coverage_20`: the same of the first 20. `unknown_targets`: those that the model does not have, each a miss.
    `label`: what was left of the pipeline, "" for all of it. `sessions`: how many the questions are about. `at`: at 5,
    10 and 20. `warnings`: what a reader must know, in words.
    """

    model_version: str
    k: int
    overall: NextItemMetrics
    repeats: NextItemMetrics
    new: NextItemMetrics
    shown: int
    coverage: float
    request_us_median: float
    request_us_p99: float
    engine_us_median: float
    seconds: float
    degraded: int
    unknown_targets: int = 0
    rare: NextItemMetrics = NO_METRICS
    coverage_20: float = 0.0
    file: str = ""
    label: str = ""
    sessions: int = 0
    at: tuple[MetricsAt, ...] = ()
    hit_rate: Interval = Interval(0.0, 0.0, 0.0)
    sources: tuple[SourceFigures, ...] = ()
    items: int = 0
    behaviour: str = ""
    training: TrainingSummary | None = None
    data: DataReport | None = None
    held: HoldoutReport | None = None
    seen: Seen | None = None
    warnings: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()

    def with_model(
        self, snapshot: ModelSnapshot, seen: Seen, questions: Questions, examples: tuple[Example, ...], label: str
    ) -> EvaluationReport:
        manifest = snapshot.manifest
        return msgspec.structs.replace(
            self,
            label=label,
            items=snapshot.item_count,
            behaviour=manifest.behaviour,
            training=manifest.training,
            data=None if isinstance(manifest.data, msgspec.UnsetType) else manifest.data,
            held=questions.said,
            seen=seen,
            examples=examples,
        )

    def warning(self, warnings: tuple[str, ...]) -> EvaluationReport:
        return msgspec.structs.replace(self, warnings=warnings)
