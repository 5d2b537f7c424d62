"""The request path as a caller sees it, on a small model."""

from __future__ import annotations

import asyncio

import msgspec
import numpy as np
import pytest

from recserv.model.snapshot import load_popular
from recserv.pipeline.engine import Engine
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.settings import PipelineSettings
from recserv.types import (
    DAY_MS,
    DegradedReason,
    Event,
    EventType,
    ExplainMode,
    Profile,
    Purchase,
    ReasonType,
    RecommendQuery,
    SessionEvent,
    SessionState,
    ShopperKey,
    ShopperState,
    Source,
    Taste,
)
from tests.pipeline.support import NOW_MS, FakeStore, ids, no_hurry, session, viewed


async def test_an_empty_request_gets_popular_items_and_says_so(pipeline, snapshot):
    answer = await pipeline().recommend(RecommendQuery(), no_hurry())
    assert len(answer.results) == 10
    assert {r.source for r in answer.results} <= {Source.POPULAR, Source.TRENDING}
    assert {r.reasons[0].type for r in answer.results} <= {ReasonType.POPULAR, ReasonType.TRENDING}
    assert answer.model_version == snapshot.version
    assert answer.degraded_reasons == ()
    assert [r.rank for r in answer.results] == list(range(1, 11))


async def test_a_context_changes_the_answer_and_is_given_as_the_reason(pipeline):
    cold = await pipeline().recommend(RecommendQuery(), no_hurry())
    warm = await pipeline().recommend(RecommendQuery(context_events=viewed("item-5")), no_hurry())
    assert ids(cold) != ids(warm)
    assert any(reason.because_item_ids == ("item-5",) for r in warm.results for reason in r.reasons)
    assert all(r.score >= s.score for r, s in zip(warm.results, warm.results[1:], strict=False))


async def test_stored_events_count_as_those_of_the_request_do(pipeline):
    stored = ShopperState(session=session((EventType.VIEW, "item-5"), (EventType.VIEW, "item-9")))
    by_store = await pipeline(FakeStore(stored)).recommend(RecommendQuery(session_id="s"), no_hurry())
    by_request = await pipeline().recommend(RecommendQuery(context_events=viewed("item-5", "item-9")), no_hurry())
    assert ids(by_store) == ids(by_request)


async def test_every_context_runs_a_search_and_every_cold_request_none(pipeline, recorder):
    for item in range(10):
        await pipeline().recommend(RecommendQuery(context_events=viewed(f"item-{item}")), no_hurry())
    assert recorder.searches == 10
    await pipeline().recommend(RecommendQuery(), no_hurry())
    assert recorder.searches == 10


async def test_each_stage_is_timed(pipeline, recorder):
    await pipeline().recommend(RecommendQuery(context_events=viewed("item-1")), no_hurry())
    assert recorder.stages == ["state", "context", "filter", "search", "retrieve", "rank", "rerank", "explain"]
    assert sum(recorder.sources.values()) == 10


async def test_excluded_items_do_not_come(pipeline):
    query = RecommendQuery(context_events=viewed("item-5"))
    first = ids(await pipeline().recommend(query, no_hurry()))
    again = ids(
        await pipeline().recommend(
            RecommendQuery(context_events=viewed("item-5"), exclude_item_ids=tuple(first) * 2), no_hurry()
        )
    )
    assert len(again) == 10
    assert not set(first) & set(again)


@pytest.mark.parametrize(
    ("asked", "setting", "gone"), [(True, False, True), (None, False, False), (None, True, True), (False, True, False)]
)
async def test_purchases_go_if_the_request_or_else_the_setting_says_so(pipeline, asked, setting, gone):
    everything = tuple(f"item-{n}" for n in range(200))
    state = ShopperState(profile=Profile(purchases=(Purchase("item-7", NOW_MS),)))
    answer = await pipeline(FakeStore(state), exclude_purchased=setting).recommend(
        RecommendQuery(session_id="s", exclude_purchased=asked, candidate_item_ids=everything, page_size=100),
        no_hurry(),
    )
    wide = await pipeline(FakeStore(state), exclude_purchased=setting).recommend(
        RecommendQuery(session_id="s", exclude_purchased=asked, candidate_item_ids=("item-7", "item-8")),
        no_hurry(),
    )
    assert ("item-7" in ids(wide)) is not gone
    assert "item-7" not in ids(answer) or not gone


async def test_what_lies_in_the_cart_is_not_recommended_but_named(pipeline):
    state = ShopperState(session=session((EventType.ADD_TO_CART, "item-5")), profile=Profile(cart={"item-5": 1}))
    answer = await pipeline(FakeStore(state)).recommend(RecommendQuery(session_id="s", page_size=50), no_hurry())
    assert "item-5" not in ids(answer)
    texts = [reason.text for r in answer.results for reason in r.reasons if reason.because_item_ids == ("item-5",)]
    assert texts
    assert all(text.endswith("in your cart") for text in texts)


async def test_anchors_lead_and_do_not_come_back(pipeline):
    answer = await pipeline().recommend(
        RecommendQuery(context_events=viewed("item-1"), anchor_item_ids=("item-30", "nowhere")), no_hurry()
    )
    assert "item-30" not in ids(answer)
    assert answer.missing_item_ids == ("nowhere",)
    becauses = [reason.because_item_ids for r in answer.results for reason in r.reasons]
    assert ("item-30",) in becauses


async def test_given_candidates_are_all_that_is_ranked(pipeline, recorder):
    requested = ("item-40", "item-3", "unknown", "item-3", "item-150")
    answer = await pipeline().recommend(
        RecommendQuery(context_events=viewed("item-5"), candidate_item_ids=requested), no_hurry()
    )
    assert set(ids(answer)) == {"item-40", "item-3", "item-150"}
    assert answer.missing_item_ids == ("unknown",)
    assert recorder.searches == 0


async def test_a_category_holds_for_every_result(pipeline, engine, snapshot):
    name = snapshot.category_names[1]
    answer = await pipeline().recommend(
        RecommendQuery(context_events=viewed("item-5"), category=name, page_size=20), no_hurry()
    )
    assert answer.results
    for result in answer.results:
        assert name in engine.items.get(engine.items.row(result.item_id)).categories


async def test_a_cold_request_for_a_category_says_that_it_is_popular_there(pipeline, snapshot):
    name = snapshot.category_names[0]
    answer = await pipeline().recommend(RecommendQuery(category=name), no_hurry())
    assert {r.source for r in answer.results} == {Source.POPULAR_IN_CATEGORY}
    assert {r.reasons[0].text for r in answer.results} == {f"Popular in {name}"}


@pytest.mark.parametrize("overloaded", [False, True])
@pytest.mark.parametrize("events", [(), viewed("item-5")])
async def test_an_unknown_category_has_no_items_and_the_answer_says_so(pipeline, events, overloaded):
    query = RecommendQuery(category="no such thing", context_events=events)
    answer = await pipeline().recommend(query, no_hurry(), overloaded=overloaded)
    assert answer.results == ()
    assert answer.missing_categories == ("no such thing",)
    assert bool(answer.degraded_reasons) == overloaded, "nothing is degraded"


@pytest.mark.parametrize("category", ["", "Toys"])
async def test_no_category_and_a_known_one_are_not_missing(pipeline, category):
    answer = await pipeline().recommend(RecommendQuery(category=category), no_hurry())
    assert answer.results
    assert answer.missing_categories == ()


async def test_of_a_damaged_model_no_category_is_said_to_be_missing(tiny_model, pipeline):
    engine = Engine(load_popular(tiny_model), None)
    answer = await RecommendationPipeline(engine, None, PipelineSettings()).recommend(
        RecommendQuery(category="Toys"), no_hurry()
    )
    assert answer.missing_categories == ()
    assert answer.degraded_reasons == (DegradedReason.SOURCE_UNAVAILABLE,)


async def test_a_page_is_filled_up_to_what_the_shop_has(pipeline, engine):
    answer = await pipeline().recommend(RecommendQuery(context_events=viewed("item-5"), page_size=100), no_hurry())
    assert len(ids(answer)) == len(set(ids(answer))) == 100
    excluded = tuple(f"item-{n}" for n in range(150))
    few = await pipeline().recommend(RecommendQuery(exclude_item_ids=excluded, page_size=100), no_hurry())
    assert 0 < len(few.results) <= 50


async def test_a_dislike_that_only_the_profile_remembers_is_not_shown(pipeline):
    query = RecommendQuery(session_id="s", user_id="u", page_size=100, context_events=viewed("item-5"))
    bad = ids(await pipeline(FakeStore(ShopperState())).recommend(query, no_hurry()))[1]
    assert bad != "item-5"
    disliked = Profile(taste=(Taste(bad, -8.0, NOW_MS - DAY_MS),), sequence=1)
    answer = ids(await pipeline(FakeStore(ShopperState(profile=disliked))).recommend(query, no_hurry()))
    assert answer
    assert bad not in answer
    again = msgspec.structs.replace(query, context_events=viewed("item-5", bad))
    assert bad in ids(await pipeline(FakeStore(ShopperState(profile=disliked))).recommend(again, no_hurry()))


async def test_a_dislike_pushes_away_and_is_not_shown(pipeline):
    events = (*viewed("item-5"), Event(event_type=EventType.DISLIKE, item_id="item-5"))
    answer = await pipeline().recommend(RecommendQuery(context_events=events, page_size=100), no_hurry())
    assert "item-5" not in ids(answer)


async def test_unknown_items_are_reported_and_harmless(pipeline):
    answer = await pipeline().recommend(RecommendQuery(context_events=viewed("ghost", "item-2", "ghost")), no_hurry())
    assert answer.missing_item_ids == ("ghost",)
    assert len(answer.results) == 10


async def test_a_search_alone_finds_what_lies_near_its_words_and_says_so(pipeline, engine, recorder):
    search = (Event(event_type=EventType.SEARCH, search_query="kettle"),)
    answer = await pipeline().recommend(RecommendQuery(context_events=search), no_hurry())
    closeness = engine.embeddings @ engine.snapshot.words.vector("kettle")
    found = [closeness[engine.items.row(item)] for item in ids(answer)]
    assert min(found) > np.quantile(closeness, 0.75)
    assert recorder.searches == 1
    for result in answer.results:
        named = "kettle" in engine.items.title(engine.items.row(result.item_id))
        matches = ReasonType.MATCHES_SEARCH in {reason.type for reason in result.reasons}
        assert named == matches
    assert any(reason.text == 'Matches your search "kettle"' for r in answer.results for reason in r.reasons)


async def test_a_search_beside_views_changes_the_answer(pipeline):
    plain = await pipeline().recommend(RecommendQuery(context_events=viewed("item-5")), no_hurry())
    search = Event(event_type=EventType.SEARCH, search_query="shovel")
    searched = await pipeline().recommend(RecommendQuery(context_events=(*viewed("item-5"), search)), no_hurry())
    assert ids(plain) != ids(searched)


async def test_a_search_for_words_that_no_product_has_changes_nothing(pipeline):
    plain = await pipeline().recommend(RecommendQuery(), no_hurry())
    search = (Event(event_type=EventType.SEARCH, search_query="xyzzy \u0000 \U0001f600"),)
    searched = await pipeline().recommend(RecommendQuery(context_events=search), no_hurry())
    assert ids(plain) == ids(searched)


async def test_diversity_trades_relevance_for_difference(pipeline, engine):
    async def spread(diversity):
        query = RecommendQuery(context_events=viewed("item-5"), diversity=diversity)
        answer = await pipeline().recommend(query, no_hurry())
        rows = engine.embeddings[[engine.items.row(i) for i in ids(answer)]]
        return float((rows @ rows.T).mean())

    assert await spread(0.9) < await spread(None)


async def test_explain_none_gives_results_without_reasons(pipeline):
    answer = await pipeline().recommend(
        RecommendQuery(context_events=viewed("item-5"), explain=ExplainMode.NONE), no_hurry()
    )
    assert all(r.reasons == () for r in answer.results)


async def test_concurrent_requests_do_not_mix_their_scratch(pipeline):
    serving = pipeline()
    queries = [RecommendQuery(context_events=viewed(f"item-{n}", f"item-{n + 3}")) for n in range(30)]
    alone = [ids(await serving.recommend(query, no_hurry())) for query in queries]
    together = await asyncio.gather(*(serving.recommend(query, no_hurry()) for query in queries))
    assert [ids(answer) for answer in together] == alone


async def test_the_context_lists_recent_items_searches_cart_and_purchases(pipeline):
    events = session((EventType.VIEW, "item-5"), (EventType.VIEW, "item-6"), (EventType.VIEW, "item-5"))
    search = SessionEvent(EventType.SEARCH, "", NOW_MS, NOW_MS, 9, search_query="red shoes")
    state = ShopperState(
        session=SessionState((*events.events, search), 9),
        profile=Profile(cart={"item-6": 2}, purchases=(Purchase("a", 1), Purchase("b", 2)), event_count=6),
    )
    context = await pipeline(FakeStore(state)).context("default", ShopperKey("s"), no_hurry())
    assert context.recent_item_ids == ("item-5", "item-6")
    assert context.recent_searches == ("red shoes",)
    assert context.cart_item_ids == ("item-6",)
    assert context.purchased_item_ids == ("b", "a")
    assert context.event_count == 6
    assert sum(weight for _, weight in context.category_weights) == pytest.approx(1.0)
