"""The request path beside stores and indices that misbehave: what is left answers, and says what was missing."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from recserv.errors import DeadlineTooNear, IndexUnavailable, InvalidInput, NotFound, StoreUnavailable
from recserv.model.snapshot import load_popular
from recserv.pipeline.engine import Engine
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.sources import SOURCES
from recserv.pipeline.tokens import encode_token
from recserv.resilience.deadline import Deadline
from recserv.types import (
    DegradedReason,
    ExplainMode,
    ExplanationState,
    RecommendQuery,
    ShopperKey,
    ShopperState,
    Source,
)
from tests.pipeline.support import TOKEN_KEY, FakeStore, ids, no_hurry, no_time_passes, viewed


async def test_a_damaged_model_can_serve_its_popular_items(tiny_model):
    engine = Engine(load_popular(tiny_model), None)
    pipeline = RecommendationPipeline(engine, None, PipelineSettings())
    answer = await pipeline.recommend(RecommendQuery(context_events=viewed("item-5")), no_hurry())
    assert answer.degraded_reasons == (DegradedReason.SOURCE_UNAVAILABLE,)
    assert len(answer.results) == 10
    assert {r.source for r in answer.results} == {Source.POPULAR}


async def test_later_explanations_are_the_reasons_for_now_under_a_token(pipeline):
    serving = pipeline()
    answer = await serving.recommend(
        RecommendQuery(context_events=viewed("item-5"), explain=ExplainMode.LLM_ASYNC), no_hurry()
    )
    texts = await serving.board.explanations("default", answer.explanation_token)
    assert [t.item_id for t in texts] == ids(answer)
    assert [t.text for t in texts] == [r.reasons[0].text for r in answer.results]
    assert {t.state for t in texts} == {ExplanationState.TEMPLATE}
    with pytest.raises(NotFound):
        await serving.board.explanations("another tenant", answer.explanation_token)


async def test_a_store_that_is_down_leaves_the_request_its_own_context(pipeline):
    own = RecommendQuery(session_id="s", context_events=viewed("item-5"))
    answer = await pipeline(FakeStore(StoreUnavailable("refused"))).recommend(own, no_hurry())
    stateless = await pipeline().recommend(own, no_hurry())
    assert answer.degraded_reasons == (DegradedReason.STATE_UNAVAILABLE,)
    assert ids(answer) == ids(stateless)


async def test_a_store_that_hangs_costs_its_share_of_the_budget_only(pipeline, virtual):
    deadline = Deadline(0.2, virtual)
    answer = await pipeline(FakeStore(ShopperState(), hang=True)).recommend(RecommendQuery(session_id="s"), deadline)
    assert deadline.remaining_s() == pytest.approx(0.2 * (1 - PipelineSettings().state_share))
    assert answer.degraded_reasons == (DegradedReason.STATE_UNAVAILABLE,)
    assert len(answer.results) == 10


async def test_a_token_whose_event_is_there_changes_nothing(pipeline):
    token = encode_token(TOKEN_KEY, "default", "s", "", 7)
    answer = await pipeline(FakeStore(ShopperState(sequence=7))).recommend(
        RecommendQuery(session_id="s", consistency_token=token), no_hurry()
    )
    assert answer.degraded_reasons == ()


@pytest.mark.parametrize("sequence", [8, 2**63 - 1])
async def test_a_token_beyond_the_newest_event_is_answered_as_stale_after_one_read(pipeline, sequence):
    token = encode_token(TOKEN_KEY, "default", "s", "", sequence)
    store = FakeStore(ShopperState(sequence=7))
    answer = await pipeline(store).recommend(RecommendQuery(session_id="s", consistency_token=token), no_hurry())
    assert answer.degraded_reasons == (DegradedReason.STALE_STATE,)
    assert store.reads == 1


async def test_a_token_of_another_state_is_answered_as_stale_though_its_sequence_is_there(pipeline):
    token = encode_token(b"the key of a state that was lost", "default", "s", "", 3)
    store = FakeStore(ShopperState(sequence=7))
    answer = await pipeline(store).recommend(RecommendQuery(session_id="s", consistency_token=token), no_hurry())
    assert answer.degraded_reasons == (DegradedReason.STALE_STATE,)
    assert store.reads == 1


async def test_a_token_is_no_error_while_there_is_no_state(pipeline):
    store = FakeStore(StoreUnavailable("down since the start"))
    store.token_key = b""
    token = encode_token(TOKEN_KEY, "default", "s", "", 3)
    answer = await pipeline(store).recommend(RecommendQuery(session_id="s", consistency_token=token), no_hurry())
    assert answer.degraded_reasons == (DegradedReason.STATE_UNAVAILABLE,)
    assert len(answer.results) == 10


async def test_text_that_is_no_consistency_token_is_invalid_input(pipeline):
    with pytest.raises(InvalidInput, match="consistency_token"):
        await pipeline(FakeStore(ShopperState())).recommend(
            RecommendQuery(session_id="s", consistency_token="garbage"), no_hurry()
        )


class BrokenIndex:
    size, dimensions, bounded = 100, 64, False

    def search(self, query, k, near=None):
        raise IndexUnavailable("broken")


class HangingIndex:
    size, dimensions, bounded = 100, 64, False

    def __init__(self):
        self.released = threading.Event()

    def search(self, query, k, near=None):
        self.released.wait()
        return np.empty(0, np.int32), np.empty(0, np.float32)


@pytest.fixture
def hanging(snapshot):
    """An engine whose index does not answer before the test is over."""
    index = HangingIndex()
    engine = Engine(snapshot, index, clock=no_time_passes)
    yield engine
    index.released.set()
    engine.close()


async def test_without_an_index_the_other_sources_answer(snapshot):
    engine = Engine(snapshot, None)
    pipeline = RecommendationPipeline(engine, None, PipelineSettings())
    answer = await pipeline.recommend(RecommendQuery(context_events=viewed("item-5")), no_hurry())
    assert answer.degraded_reasons == (DegradedReason.INDEX_UNAVAILABLE,)
    assert len(answer.results) == 10
    cold = await pipeline.recommend(RecommendQuery(), no_hurry())
    assert cold.degraded_reasons == ()


@pytest.mark.parametrize("on_the_spot", [False, True])
async def test_an_index_that_raises_is_named_and_the_others_answer(snapshot, on_the_spot):
    index = BrokenIndex()
    index.bounded = on_the_spot
    engine = Engine(snapshot, index)
    pipeline = RecommendationPipeline(engine, None, PipelineSettings())
    answer = await pipeline.recommend(RecommendQuery(context_events=viewed("item-5")), no_hurry())
    engine.close()
    assert answer.degraded_reasons == (DegradedReason.INDEX_UNAVAILABLE,)
    assert len(answer.results) == 10


async def test_a_search_that_hangs_is_index_timeout_and_the_other_sources_answer(hanging, virtual):
    pipeline = RecommendationPipeline(hanging, None, PipelineSettings())
    answer = await pipeline.recommend(RecommendQuery(context_events=viewed("item-5")), Deadline(0.1, virtual))
    assert answer.degraded_reasons == (DegradedReason.INDEX_TIMEOUT,)
    assert len(answer.results) == 10
    assert hanging.search.thread.pending == 1


async def test_behind_a_search_that_hangs_nobody_queues_for_ever(hanging):
    pipeline = RecommendationPipeline(hanging, None, PipelineSettings())
    for _ in range(64):
        hanging.search.later(np.zeros(1, np.float32), 1)
    answer = await pipeline.recommend(RecommendQuery(context_events=viewed("item-5")), no_hurry())
    assert answer.degraded_reasons == (DegradedReason.INDEX_UNAVAILABLE,)


async def test_too_little_time_gives_popular_items(pipeline):
    answer = await pipeline().recommend(RecommendQuery(context_events=viewed("item-5")), Deadline(0.0))
    assert answer.degraded_reasons == (DegradedReason.DEADLINE,)
    assert {r.source for r in answer.results} == {Source.POPULAR}


async def test_the_context_rpc_raises_without_a_store_or_time(pipeline):
    with pytest.raises(StoreUnavailable):
        await pipeline().context("default", ShopperKey("s"), no_hurry())
    with pytest.raises(DeadlineTooNear):
        await pipeline(FakeStore(ShopperState(), hang=True)).context("default", ShopperKey("s"), Deadline(0.01))


@pytest.mark.parametrize("kind", SOURCES)
async def test_a_source_that_fails_is_named_and_the_others_answer(engine, monkeypatch, kind):
    def broken(*args):
        raise MemoryError

    monkeypatch.setattr(kind, "fill", broken)
    pipeline = RecommendationPipeline(engine, None, PipelineSettings())
    answer = await pipeline.recommend(RecommendQuery(context_events=viewed("item-5")), no_hurry())
    assert answer.degraded_reasons == (DegradedReason.SOURCE_UNAVAILABLE,)
    assert len(answer.results) == 10
