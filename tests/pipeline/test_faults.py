"""The index and the ranker raise, hang and talk nonsense; stages fail that should not. Every answer is whole, and says
why it is less than it could be.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from recserv.pipeline.degradation import Guards
from recserv.pipeline.engine import Engine
from recserv.pipeline.filters import blocked_items
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.settings import PipelineSettings
from recserv.resilience.breaker import BreakerSettings, BreakerState
from recserv.resilience.deadline import Deadline
from recserv.types import DegradedReason, EventType, RecommendQuery, ShopperState, Source
from tests.pipeline.support import FakeStore, ids, no_hurry, no_time_passes, session, viewed

QUERY = RecommendQuery(context_events=viewed("item-5", "item-10"))
QUICK = BreakerSettings(minimum_number_of_calls=3, sliding_window_size=3, wait_duration_in_open_state_s=60.0)


class Index:
    """Answers what it is told to."""

    dimensions = 16

    def __init__(self, answer: object, bounded: bool = True, size: int = 200):
        self.answer, self.bounded, self.size, self.searches = answer, bounded, size, 0

    def search(self, query, k, near=None):
        self.searches += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer(k) if callable(self.answer) else self.answer


class Ranker:
    def __init__(self, answer: object, bounded: bool = True):
        self.answer, self.bounded, self.calls = answer, bounded, 0

    def scores(self, features):
        self.calls += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer(features)


def neighbours(
    items: list[int], similarities: list[float], kinds: tuple[type, type] = (np.int32, np.float32)
) -> object:
    return np.array(items, kinds[0]), np.array(similarities, kinds[1])


NONSENSE = {
    "none": None,
    "one array": np.arange(3, dtype=np.int32),
    "other types": neighbours([1, 2], [0.9, 0.8], (np.int64, np.float64)),
    "two dimensions": (np.zeros((2, 2), np.int32), np.zeros((2, 2), np.float32)),
    "lengths": neighbours([1, 2, 3], [0.9, 0.8]),
    "not a number": neighbours([1, 2], [0.9, float("nan")]),
    "out of range": neighbours([1, 10**6], [0.9, 0.8]),
    "negative": neighbours([-1, 2], [0.9, 0.8]),
    "unsorted": neighbours([1, 2], [0.8, 0.9]),
    "duplicates": neighbours([1, 1], [0.9, 0.8]),
    "too many": lambda k: neighbours(list(range(k + 1)), [0.5] * (k + 1)),
}


@pytest.mark.parametrize("name", NONSENSE)
@pytest.mark.parametrize("bounded", [True, False])
async def test_an_index_that_talks_nonsense_is_missing(snapshot, name, bounded):
    engine = Engine(snapshot, Index(NONSENSE[name], bounded))
    without = await RecommendationPipeline(Engine(snapshot, None), None, PipelineSettings()).recommend(
        QUERY, no_hurry()
    )
    answer = await RecommendationPipeline(engine, None, PipelineSettings()).recommend(QUERY, no_hurry())
    engine.close()
    assert answer.degraded_reasons == (DegradedReason.INDEX_UNAVAILABLE,)
    assert ids(answer) == ids(without)


async def test_an_index_that_keeps_failing_is_left_alone(snapshot):
    index = Index(OSError("broken"))
    engine, guards = Engine(snapshot, index), Guards(QUICK)
    pipeline = RecommendationPipeline(engine, None, PipelineSettings(), guards=guards)
    for _ in range(10):
        answer = await pipeline.recommend(QUERY, no_hurry())
        assert answer.degraded_reasons == (DegradedReason.INDEX_UNAVAILABLE,)
    engine.close()
    assert index.searches == 3
    assert guards.index.breaker.state is BreakerState.OPEN


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """What hangs waits for it; it comes when the test is over."""
    event = threading.Event()
    yield event
    event.set()


async def test_behind_an_index_that_hangs_nobody_waits_once_it_is_known(snapshot, never, virtual):
    engine = Engine(snapshot, Index(lambda k: never.wait(), bounded=False), clock=no_time_passes)
    guards = Guards(QUICK, clock=virtual)
    pipeline = RecommendationPipeline(engine, None, PipelineSettings(), guards=guards)
    given, waited_s = [], []
    for _ in range(6):
        deadline = Deadline(0.05, virtual)
        given.append((await pipeline.recommend(QUERY, deadline)).degraded_reasons)
        waited_s.append(0.05 - deadline.remaining_s())
    engine.close()
    assert waited_s == pytest.approx([0.05 * PipelineSettings().search_share] * 3 + [0.0] * 3, abs=1e-6)
    assert given == [(DegradedReason.INDEX_TIMEOUT,)] * 3 + [(DegradedReason.INDEX_UNAVAILABLE,)] * 3


async def ranked(snapshot, index, ranker, deadline=None):
    engine = Engine(snapshot, index, ranker, clock=no_time_passes)
    deadline = deadline or no_hurry()
    answer = await RecommendationPipeline(engine, None, PipelineSettings()).recommend(QUERY, deadline)
    engine.close()
    return answer


@pytest.mark.parametrize("bounded", [True, False])
async def test_another_ranker_may_take_the_place_of_the_models_own(snapshot, index, bounded):
    backwards = Ranker(lambda features: np.arange(len(features), dtype=np.float32), bounded)
    answer = await ranked(snapshot, index, backwards)
    assert answer.degraded_reasons == ()
    assert [result.score for result in answer.results] == sorted((r.score for r in answer.results), reverse=True)
    assert ids(answer) != ids(await ranked(snapshot, index, None))


BAD_SCORES = {
    "raises": OSError("broken"),
    "nothing": lambda features: None,
    "too few": lambda features: np.ones(1, np.float32),
    "a matrix": lambda features: features,
    "words": lambda features: np.array(["best"] * len(features)),
    "not a number": lambda features: np.full(len(features), np.nan, np.float32),
    "infinite": lambda features: np.full(len(features), np.inf, np.float32),
}


@pytest.mark.parametrize("name", BAD_SCORES)
@pytest.mark.parametrize("bounded", [True, False])
async def test_a_ranker_that_fails_or_talks_nonsense_leaves_fixed_weights(snapshot, index, name, bounded):
    answer = await ranked(snapshot, index, Ranker(BAD_SCORES[name], bounded))
    assert answer.degraded_reasons == (DegradedReason.RANKER_UNAVAILABLE,)
    assert len(answer.results) == 10


async def test_a_ranker_that_hangs_is_left_behind(snapshot, index, never, virtual):
    ranker = Ranker(lambda features: never.wait(), bounded=False)
    answer = await ranked(snapshot, index, ranker, Deadline(0.1, virtual))
    assert answer.degraded_reasons == (DegradedReason.RANKER_UNAVAILABLE,)
    assert len(answer.results) == 10


class NotANumber:
    """In the place of the model's table: scores that are no numbers rank nobody."""

    def __init__(self, table):
        self._table = table

    def __getattr__(self, name):
        return getattr(self._table, name)

    def rank(self, scorer, *arguments):
        *arguments, keep = arguments
        return self._table.rank(scorer, *arguments, 0 if scorer is self.broken else keep)


async def test_scores_of_the_models_ranker_that_are_no_numbers_are_its_failure(engine):
    engine.table = NotANumber(engine.table)
    engine.table.broken = engine.scorer
    answer = await RecommendationPipeline(engine, None, PipelineSettings()).recommend(QUERY, no_hurry())
    assert answer.degraded_reasons == (DegradedReason.RANKER_UNAVAILABLE,)
    assert {result.source for result in answer.results} != {Source.POPULAR}


async def test_a_stage_that_fails_unexpectedly_leaves_popular_items(engine, monkeypatch):
    state = ShopperState(session=session((EventType.VIEW, "item-5")), sequence=1)
    pipeline = RecommendationPipeline(engine, FakeStore(state), PipelineSettings())
    monkeypatch.setattr("recserv.pipeline.pipeline.rerank", lambda *arguments: 1 / 0)
    popular = (await pipeline.recommend(RecommendQuery(), no_hurry())).results[0].item_id
    answer = await pipeline.recommend(RecommendQuery(session_id="s", exclude_item_ids=(popular,)), no_hurry())
    assert answer.degraded_reasons == (DegradedReason.STAGE_FAILED,)
    assert len(answer.results) == 10
    assert popular not in ids(answer)


async def test_a_filter_that_fails_over_the_stored_state_still_leaves_out_what_the_query_excludes(engine, monkeypatch):
    state = ShopperState(session=session((EventType.VIEW, "item-5")), sequence=1)
    pipeline = RecommendationPipeline(engine, FakeStore(state), PipelineSettings())
    popular = (await pipeline.recommend(RecommendQuery(), no_hurry())).results[0].item_id

    def broken(engine, stored, *arguments):
        if stored is state:
            raise ZeroDivisionError
        return blocked_items(engine, stored, *arguments)

    monkeypatch.setattr("recserv.pipeline.pipeline.blocked_items", broken)
    answer = await pipeline.recommend(RecommendQuery(session_id="s", exclude_item_ids=(popular,)), no_hurry())
    assert answer.degraded_reasons == (DegradedReason.STAGE_FAILED,)
    assert len(answer.results) == 10
    assert popular not in ids(answer)


@pytest.mark.parametrize("overloaded", [True, False])
async def test_a_filter_that_always_fails_leaves_nothing_out(engine, monkeypatch, overloaded):
    monkeypatch.setattr("recserv.pipeline.pipeline.blocked_items", lambda *arguments: 1 / 0)
    pipeline = RecommendationPipeline(engine, None, PipelineSettings())
    answer = await pipeline.recommend(QUERY, no_hurry(), overloaded=overloaded)
    assert answer.degraded_reasons == (DegradedReason.OVERLOAD if overloaded else DegradedReason.STAGE_FAILED,)
    assert len(answer.results) == 10


async def test_results_without_reasons_are_better_than_none(engine, monkeypatch):
    monkeypatch.setattr("recserv.pipeline.explain.reasons_of", lambda *arguments: 1 / 0)
    answer = await RecommendationPipeline(engine, None, PipelineSettings()).recommend(QUERY, no_hurry())
    assert answer.degraded_reasons == (DegradedReason.EXPLANATION_UNAVAILABLE,)
    assert len(answer.results) == 10
    assert all(result.reasons == () for result in answer.results)


async def test_an_overloaded_server_answers_popular_items_without_a_look_at_the_store(engine, recorder):
    store = FakeStore(ShopperState())
    pipeline = RecommendationPipeline(engine, store, PipelineSettings(), observer=recorder)
    excluded = ids(await pipeline.recommend(RecommendQuery(), no_hurry()))[0]
    query = RecommendQuery(session_id="s", context_events=viewed("item-5"), exclude_item_ids=(excluded,), page_size=20)
    answer = await pipeline.recommend(query, no_hurry(), overloaded=True)
    assert answer.degraded_reasons == (DegradedReason.OVERLOAD,)
    assert {result.source for result in answer.results} == {Source.POPULAR}
    assert len(answer.results) == 20
    assert excluded not in ids(answer)
    assert store.reads == 0
    assert recorder.reasons == [DegradedReason.OVERLOAD]
