"""`recserv eval`: every prefix goes through the pipeline that serves, as an anonymous session of views.

    prefix item ids (space-separated, oldest first) TAB target item id      plain or .gz

All items are candidates, items already seen are not excluded, a rank beyond k counts 0. A target that the model does
not know counts as a miss.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from recserv.errors import DatasetError
from recserv.evaluation.ablation import Ablation
from recserv.evaluation.metrics import NextItemMetrics, next_item_metrics
from recserv.index.listed import ListedIndex
from recserv.model.snapshot import ModelSnapshot, load_snapshot
from recserv.pipeline.engine import Engine
from recserv.pipeline.observer import SilentObserver
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.resilience.deadline import Deadline
from recserv.types import SESSION_EVENTS_MAX, Event, EventType, ExplainMode, Recommendation, RecommendQuery

Progress = Callable[[str, int, int], None]
GENEROUS_S = 60.0
SAMPLES = 5
ENGINE_STAGES = frozenset(("search", "retrieve", "rank"))


class EvaluationReport(msgspec.Struct, frozen=True):
    """`repeats`: targets that the prefix already holds; `new`: the others. Times are of one request at a time: through
    the pipeline, or through a server and the network to it. `engine_us_median`: of it the search, the sources and the
    ranking; 0 where a server answered. `shown`: how many different items were recommended; `coverage`: as a share of
    the model's, 0 where the model is not at hand. `unknown_targets`: those that the model does not have, each a miss.
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


class _EngineTime(SilentObserver):
    """Adds up the stages of one request that the engine works in."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def stage(self, name: str, seconds: float) -> None:
        if name in ENGINE_STAGES:
            self.seconds += seconds

    def take(self) -> float:
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def read_prefixes(path: Path) -> Iterator[tuple[list[str], str]]:
    """(prefix, target) of each line. Raises DatasetError naming the row."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for row, line in enumerate(lines, start=1):
                prefix, tab, target = line.rstrip("\n").partition("\t")
                if not tab or not prefix.split() or not target.strip():
                    raise DatasetError(str(path), "expected: prefix ids TAB target id", row=row)
                yield prefix.split(), target.strip()
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise DatasetError(str(path), str(error)) from error


def evaluate(
    model_dir: Path,
    sessions_path: Path,
    k: int = 20,
    progress: Progress | None = None,
    ablation: Ablation | None = None,
) -> EvaluationReport:
    """Scores a model on the next item of each prefix. Raises ModelError or DatasetError."""
    snapshot = load_snapshot(model_dir)
    index = None
    if snapshot.index_path is not None:
        with snapshot.verified_index() as path:
            index = ListedIndex.load(path, snapshot.embeddings, snapshot.nearest_items)
    engine = Engine(snapshot, index)
    engine_time = _EngineTime()
    try:
        settings = (ablation or Ablation()).apply(engine)
        pipeline = RecommendationPipeline(engine, None, settings, observer=engine_time)

        async def answer(query: RecommendQuery) -> Recommendation:
            return await pipeline.recommend(query, Deadline(GENEROUS_S))

        prefixes = list(read_prefixes(sessions_path))
        unknown = _unknown_targets(snapshot, sessions_path, prefixes)
        report = asyncio.run(_evaluate(answer, engine_time, prefixes, k, progress))
    finally:
        engine.close()
    coverage = report.shown / max(snapshot.item_count, 1)
    return msgspec.structs.replace(report, coverage=coverage, unknown_targets=unknown)


def _unknown_targets(snapshot: ModelSnapshot, path: Path, prefixes: list[tuple[list[str], str]]) -> int:
    """How many targets the model does not have. Raises DatasetError if it has none of them: the figures would all be 0
    and say nothing of the model.
    """
    unknown = [target for _, target in prefixes if snapshot.items.position(target) < 0]
    if prefixes and len(unknown) == len(prefixes):
        samples = ", ".join(map(repr, dict.fromkeys(unknown[:SAMPLES])))
        ours = ", ".join(repr(snapshot.items.id(at)) for at in range(min(SAMPLES, snapshot.item_count)))
        raise DatasetError(str(path), f"none of the targets is an item of the model: {samples}; the model has {ours}")
    return len(unknown)


def evaluate_server(
    recommend: Callable[[RecommendQuery], Recommendation],
    sessions_path: Path,
    k: int = 20,
    progress: Progress | None = None,
) -> EvaluationReport:
    """The same through a running server; `recommend` is a client's call. Raises DatasetError and whatever it raises."""

    async def answer(query: RecommendQuery) -> Recommendation:
        return recommend(query)

    return asyncio.run(_evaluate(answer, _EngineTime(), list(read_prefixes(sessions_path)), k, progress))


async def _evaluate(
    recommend: Callable[[RecommendQuery], Awaitable[Recommendation]],
    engine_time: _EngineTime,
    prefixes: list[tuple[list[str], str]],
    k: int,
    progress: Progress | None,
) -> EvaluationReport:
    began = time.perf_counter()
    ranks = np.zeros(len(prefixes), np.int64)
    repeats = np.zeros(len(prefixes), bool)
    times, engine_times = np.zeros(len(prefixes)), np.zeros(len(prefixes))
    shown: set[str] = set()
    degraded, version = 0, ""
    for row, (prefix, target) in enumerate(prefixes):
        query = RecommendQuery(
            context_events=tuple(
                Event(event_type=EventType.VIEW, item_id=item) for item in prefix[-SESSION_EVENTS_MAX:]
            ),
            page_size=k,
            explain=ExplainMode.NONE,
        )
        started = time.perf_counter()
        answer = await recommend(query)
        times[row], engine_times[row] = time.perf_counter() - started, engine_time.take()
        items = [result.item_id for result in answer.results]
        ranks[row] = items.index(target) + 1 if target in items else 0
        repeats[row] = target in prefix
        shown.update(items)
        degraded += bool(answer.degraded_reasons)
        version = answer.model_version
        if progress is not None and row % 500 == 0:
            progress("evaluate", row, len(prefixes))
    if progress is not None:
        progress("evaluate", len(prefixes), len(prefixes))
    return EvaluationReport(
        model_version=version,
        k=k,
        overall=next_item_metrics(ranks),
        repeats=next_item_metrics(ranks[repeats]),
        new=next_item_metrics(ranks[~repeats]),
        shown=len(shown),
        coverage=0.0,
        request_us_median=float(np.median(times) * 1e6) if len(times) else 0.0,
        request_us_p99=float(np.quantile(times, 0.99) * 1e6) if len(times) else 0.0,
        engine_us_median=float(np.median(engine_times) * 1e6) if len(times) else 0.0,
        seconds=time.perf_counter() - began,
        degraded=degraded,
    )
