"""`recserv eval`: every prefix goes through the pipeline that serves, as an anonymous session of views.

    questions (`questions`) -> Asked: the rank of each target in the list of the whole, and of each source alone
    -> EvaluationReport: figures with intervals, by kind of target, beside each source; what warns; `examples`

All items are candidates, items already seen are not excluded, a rank beyond k counts 0. A target that the model does
not know counts as a miss.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recserv.errors import DatasetError
from recserv.evaluation.ablation import Ablation
from recserv.evaluation.examples import Example, chosen_examples
from recserv.evaluation.figures import KS, EvaluationReport, SourceFigures, source_figures
from recserv.evaluation.intervals import of_share
from recserv.evaluation.metrics import Ranks, metrics_at, next_item_metrics, within
from recserv.evaluation.questions import Line, Questions, read_prefixes, read_questions
from recserv.evaluation.seen import seen_by
from recserv.evaluation.target_kinds import TargetKinds, target_kinds
from recserv.evaluation.warnings import warnings_of
from recserv.index.listed import ListedIndex
from recserv.model.snapshot import ModelSnapshot, load_snapshot
from recserv.pipeline.engine import Engine
from recserv.pipeline.observer import SilentObserver
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.settings import PipelineSettings
from recserv.resilience.deadline import Deadline
from recserv.types import SESSION_EVENTS_MAX, Event, EventType, ExplainMode, Recommendation, RecommendQuery

__all__ = ["EvaluationReport", "evaluate", "evaluate_server", "read_prefixes"]

Progress = Callable[[str, int, int], None]
Recommend = Callable[[RecommendQuery], Awaitable[Recommendation]]
GENEROUS_S = 60.0
SAMPLES = 5
STRANGERS_AFTER = 500
ENGINE_STAGES = frozenset(("search", "retrieve", "rank"))
ALONE = ("covisitation", "session_knn", "popular")
"""Sources that a shop could have without the rest."""


class _EngineTime(SilentObserver):
    """Adds up the time of the stages of a request that run in the engine."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def stage(self, name: str, seconds: float) -> None:
        if name in ENGINE_STAGES:
            self.seconds += seconds

    def take(self) -> float:
        seconds, self.seconds = self.seconds, 0.0
        return seconds


@dataclass(frozen=True)
class Asked:
    """Of n questions: `ranks` in lists of max(k, 20); `shown`, `shown_20`: how many different items were among the
    first k and among the first 20; `times`, `engine_times` float64 [n] in seconds.
    """

    ranks: Ranks
    shown: int
    shown_20: int
    times: npt.NDArray[np.float64]
    engine_times: npt.NDArray[np.float64]
    degraded: int
    model_version: str
    seconds: float


def evaluate(
    model_dir: Path,
    sessions_path: Path,
    k: int = 20,
    progress: Progress | None = None,
    ablation: Ablation | None = None,
    *,
    sources: bool = False,
    examples: int = 0,
) -> EvaluationReport:
    """Scores a model on the next item of each prefix, and with `sources` each source alone beside it. `examples`: how
    many questions to show. Raises ModelError or DatasetError.
    """
    ablation = ablation or Ablation()
    questions = read_questions(sessions_path)
    snapshot = load_snapshot(model_dir)
    kinds = target_kinds(snapshot, questions)
    _refuse_strangers(snapshot, questions, kinds)
    engine = _engine(snapshot)
    try:
        settings = ablation.apply(engine)
        whole = _ask(engine, settings, questions.lines, k, "evaluate", progress)
        shown = _examples(engine, settings, questions, whole.ranks, kinds, k, examples)
        beside = _beside(engine, questions, k, whole, progress) if sources else ()
    finally:
        engine.close()
    report = _report(questions, whole, k, snapshot.item_count, kinds, beside)
    report = report.with_model(snapshot, seen_by(snapshot, questions), questions, shown, ablation.label)
    return report.warning(warnings_of(report, snapshot, questions))


def _engine(snapshot: ModelSnapshot) -> Engine:
    index = None
    if snapshot.index_path is not None:
        with snapshot.verified_index() as path:
            index = ListedIndex.load(path, snapshot.embeddings, snapshot.nearest_items)
    return Engine(snapshot, index)


def _ask(
    engine: Engine, settings: PipelineSettings, lines: list[Line], k: int, stage: str, progress: Progress | None
) -> Asked:
    engine_time = _EngineTime()
    return asyncio.run(_ask_all(_answering(engine, settings, engine_time), engine_time, lines, k, stage, progress))


def _answering(engine: Engine, settings: PipelineSettings, observer: SilentObserver) -> Recommend:
    pipeline = RecommendationPipeline(engine, None, settings, observer=observer)

    async def answer(query: RecommendQuery) -> Recommendation:
        return await pipeline.recommend(query, Deadline(GENEROUS_S))

    return answer


def _examples(
    engine: Engine,
    settings: PipelineSettings,
    questions: Questions,
    ranks: Ranks,
    kinds: TargetKinds,
    k: int,
    count: int,
) -> tuple[Example, ...]:
    answer = _answering(engine, settings, SilentObserver())

    def recommend(prefix: list[str]) -> Recommendation:
        return asyncio.run(_once(answer, _query(prefix, max(k, KS[-1]))))

    return chosen_examples(questions, ranks, kinds, engine.items, recommend, count)


async def _once(answer: Recommend, query: RecommendQuery) -> Recommendation:
    return await answer(query)


def _beside(
    engine: Engine, questions: Questions, k: int, whole: Asked, progress: Progress | None
) -> tuple[SourceFigures, ...]:
    """Each source as a ranker by its own scores, asked the same questions. Leaves the engine as it was."""
    scorer, found = engine.scorer, []
    items = max(len(engine.items), 1)
    for name in ALONE:
        settings = Ablation(only=name).apply(engine)
        alone = _ask(engine, settings, questions.lines, k, f"evaluate {name} alone", progress)
        found.append(source_figures(name, alone.ranks, whole.ranks, questions.session, alone.shown_20 / items))
        engine.scorer = scorer
    return tuple(found)


def _refuse_strangers(snapshot: ModelSnapshot, questions: Questions, kinds: TargetKinds) -> None:
    """Raises DatasetError if the model has none of the targets: the figures would all be 0 and say nothing of it."""
    if not kinds.unknown.all():
        return
    samples = ", ".join(map(repr, dict.fromkeys(target for _, target in questions.lines[:SAMPLES])))
    ours = ", ".join(repr(snapshot.items.id(at)) for at in range(min(SAMPLES, snapshot.item_count)))
    problem = f"none of the targets is an item of the model: {samples}; the model has {ours}"
    raise DatasetError(str(questions.path), f"{problem}. Was it built from this shop's events?")


def evaluate_server(
    recommend: Callable[[RecommendQuery], Recommendation],
    sessions_path: Path,
    k: int = 20,
    progress: Progress | None = None,
) -> EvaluationReport:
    """The same through a running server, which says nothing of its sources; `recommend` is a client's call. Raises
    DatasetError and whatever it raises.
    """
    questions = read_questions(sessions_path)
    strangers = _Strangers(recommend, questions)
    asked = asyncio.run(_ask_all(strangers.answer, _EngineTime(), questions.lines, k, "evaluate", progress))
    strangers.refuse()
    report = _report(questions, asked, k, 0, None, ())
    return report.warning(warnings_of(report, None, questions))


class _Strangers:
    """Forwards calls, and notes whether the server knows any item of the questions."""

    def __init__(self, recommend: Callable[[RecommendQuery], Recommendation], questions: Questions):
        self._recommend, self._questions = recommend, questions
        self._calls, self._known = 0, False
        self._offered: tuple[str, ...] = ()

    async def answer(self, query: RecommendQuery) -> Recommendation:
        found = self._recommend(query)
        self._calls += 1
        given = {event.item_id for event in query.context_events}
        self._known |= bool(given - set(found.missing_item_ids))
        self._offered = self._offered or tuple(result.item_id for result in found.results[:SAMPLES])
        if self._calls == STRANGERS_AFTER:
            self.refuse()
        return found

    def refuse(self) -> None:
        """Raises DatasetError if none of the items was known so far."""
        if self._known or not self._calls:
            return
        samples = ", ".join(map(repr, self._questions.lines[0][0][:SAMPLES]))
        ours = ", ".join(map(repr, self._offered))
        problem = f"the server's model has no item of the first {self._calls:,} lines: {samples}; it recommends {ours}"
        raise DatasetError(str(self._questions.path), f"{problem}. Does it serve this shop's model?")


def _query(prefix: list[str], page_size: int) -> RecommendQuery:
    return RecommendQuery(
        context_events=tuple(Event(event_type=EventType.VIEW, item_id=item) for item in prefix[-SESSION_EVENTS_MAX:]),
        page_size=page_size,
        explain=ExplainMode.NONE,
    )


async def _ask_all(
    recommend: Recommend, engine_time: _EngineTime, lines: list[Line], k: int, stage: str, progress: Progress | None
) -> Asked:
    began = time.perf_counter()
    ranks = np.zeros(len(lines), np.int64)
    times, engine_times = np.zeros(len(lines)), np.zeros(len(lines))
    shown: set[str] = set()
    shown_20: set[str] = set()
    degraded, version = 0, ""
    for row, (prefix, target) in enumerate(lines):
        query = _query(prefix, max(k, KS[-1]))
        started = time.perf_counter()
        answer = await recommend(query)
        times[row], engine_times[row] = time.perf_counter() - started, engine_time.take()
        items = [result.item_id for result in answer.results]
        ranks[row] = items.index(target) + 1 if target in items else 0
        shown.update(items[:k])
        shown_20.update(items[: KS[-1]])
        degraded += bool(answer.degraded_reasons)
        version = answer.model_version
        if progress is not None and row % 500 == 0:
            progress(stage, row, len(lines))
    if progress is not None:
        progress(stage, len(lines), len(lines))
    return Asked(ranks, len(shown), len(shown_20), times, engine_times, degraded, version, time.perf_counter() - began)


def _report(
    questions: Questions,
    asked: Asked,
    k: int,
    items: int,
    kinds: TargetKinds | None,
    sources: tuple[SourceFigures, ...],
) -> EvaluationReport:
    """`items`: of the model; 0: it is not at hand, and neither are `kinds`."""
    ranks, repeats = within(asked.ranks, k), questions.repeats()
    unknown = np.zeros(len(ranks), bool) if kinds is None else kinds.unknown
    rare = np.zeros(len(ranks), bool) if kinds is None else kinds.rare
    return EvaluationReport(
        model_version=asked.model_version,
        k=k,
        overall=next_item_metrics(ranks),
        repeats=next_item_metrics(ranks[repeats]),
        new=next_item_metrics(ranks[~repeats]),
        rare=next_item_metrics(ranks[rare]),
        shown=asked.shown,
        coverage=asked.shown / items if items else 0.0,
        coverage_20=asked.shown_20 / items if items else 0.0,
        request_us_median=float(np.median(asked.times) * 1e6),
        request_us_p99=float(np.quantile(asked.times, 0.99) * 1e6),
        engine_us_median=float(np.median(asked.engine_times) * 1e6),
        seconds=asked.seconds,
        degraded=asked.degraded,
        unknown_targets=int(unknown.sum()),
        file=questions.path.name,
        sessions=questions.sessions,
        at=tuple(metrics_at(asked.ranks, questions.session, each) for each in KS),
        hit_rate=of_share(ranks > 0, questions.session),
        sources=sources,
    )
