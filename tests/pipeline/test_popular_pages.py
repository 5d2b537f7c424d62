"""Popular pages are made once for all of whom nothing is known; whoever rules something out gets one of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from recserv.pipeline.popular_pages import PAGES_MAX, PopularPages
from recserv.types import DegradedReason, Event, EventType, ExplainMode, Recommendation, RecommendQuery, Source
from tests.pipeline.support import NOW_MS, no_hurry


def in_cart(item: str) -> dict[str, Any]:
    kind = EventType.ADD_TO_CART
    event = Event(event_id="e", event_type=kind, item_id=item, session_id="s", event_time_ms=NOW_MS)
    return {"context_events": (event,)}


RULED_OUT: dict[str, Callable[[str], dict[str, Any]]] = {
    "excluded": lambda item: {"exclude_item_ids": (item,)},
    "anchor": lambda item: {"anchor_item_ids": (item,)},
    "in the cart": in_cart,
}


async def overloaded(pipeline: Any, **fields: Any) -> Recommendation:
    return await pipeline.recommend(RecommendQuery(**fields), no_hurry(), overloaded=True)


@pytest.mark.parametrize("explain", [ExplainMode.NONE, ExplainMode.REASONS])
@pytest.mark.parametrize("category", ["", "known", "unknown"])
@pytest.mark.parametrize("page_size", [1, 10, 100])
async def test_a_shared_page_is_the_page_that_each_would_get(
    pipeline: Any, snapshot: Any, monkeypatch: pytest.MonkeyPatch, page_size: int, category: str, explain: ExplainMode
) -> None:
    named = {"known": snapshot.category_names[-1], "unknown": "no such category"}.get(category, "")
    fields = {"page_size": page_size, "category": named, "explain": explain}
    shared = await overloaded(pipeline(), session_id="a", **fields)
    monkeypatch.setattr("recserv.pipeline.pipeline.shareable", lambda query: False)
    own = await overloaded(pipeline(), session_id="a", **fields)
    assert (shared.shared, own.shared) == (True, False)
    assert shared.results == own.results
    assert shared.degraded_reasons == own.degraded_reasons == (DegradedReason.OVERLOAD,)


async def test_the_next_shopper_gets_the_same_object_under_another_id(pipeline: Any, recorder: Any) -> None:
    serving = pipeline()
    answers = [await overloaded(serving, session_id=name, user_id=f"user-{name}") for name in "abc"]
    assert len({id(answer.results) for answer in answers}) == 1
    assert len({answer.recommendation_id for answer in answers}) == 3
    assert recorder.sources == {Source.POPULAR: 30}
    assert recorder.reasons == [DegradedReason.OVERLOAD] * 3


@pytest.mark.parametrize("how", RULED_OUT)
@pytest.mark.parametrize("place", [0, 9, 10, -1])
async def test_whoever_rules_out_what_is_on_the_page_gets_one_of_their_own(
    pipeline: Any, engine: Any, monkeypatch: pytest.MonkeyPatch, how: str, place: int
) -> None:
    serving = pipeline(exclude_cart=True)
    common = await overloaded(serving)
    ruled_out = engine.items.id(int(engine.popular_order[place]))
    fields = RULED_OUT[how](ruled_out)
    answer = await overloaded(serving, **fields)
    assert (answer.shared, answer.results is common.results) == (place not in (0, 9), place not in (0, 9))
    assert ruled_out not in [result.item_id for result in answer.results]
    monkeypatch.setattr("recserv.pipeline.pipeline.shareable", lambda query: False)
    assert answer.results == (await overloaded(pipeline(exclude_cart=True), **fields)).results


@pytest.mark.parametrize("fields", [{"candidate_item_ids": ("item-3", "item-4")}, {"return_items": True}])
async def test_whoever_asks_for_something_special_gets_a_page_of_their_own(pipeline: Any, fields: Any) -> None:
    serving = pipeline()
    first, second = await overloaded(serving, **fields), await overloaded(serving, **fields)
    assert (first.shared, first.results is second.results) == (False, False)
    assert first.results == second.results


async def test_a_page_that_a_model_is_to_write_for_is_not_shared(pipeline: Any) -> None:
    serving = pipeline()
    answer = await overloaded(serving, session_id="s", explain=ExplainMode.LLM_ASYNC)
    assert not answer.shared
    assert answer.results
    again = await overloaded(serving, session_id="s")
    assert again.shared
    assert all(not result.explanation_state for result in again.results)


async def test_pages_that_cannot_be_made_for_all_are_made_for_each(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recserv.pipeline.explain.reasons_of", lambda *arguments: 1 / 0)
    answer = await overloaded(pipeline(), session_id="s")
    assert answer.degraded_reasons == (DegradedReason.OVERLOAD, DegradedReason.EXPLANATION_UNAVAILABLE)
    assert (len(answer.results), answer.shared) == (10, False)


def test_pages_are_few_however_many_categories_are_asked_for() -> None:
    made: list[str] = []

    def make(query: RecommendQuery) -> Any:
        made.append(query.category)
        return query.category

    pages = PopularPages()
    query = RecommendQuery(category="")
    for number in range(10 * PAGES_MAX):
        named = msgspec.structs.replace(query, category=str(number))
        assert pages.get(named, make) == pages.get(named, make) == str(number)
    assert len(pages) == PAGES_MAX
    assert len(made) == 10 * PAGES_MAX
