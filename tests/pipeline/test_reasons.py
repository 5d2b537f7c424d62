"""What an answer says of why a result is there must be true of that result."""

from __future__ import annotations

from typing import Any

import pytest

from recserv.types import EventType, Profile, ReasonType, Recommendation, RecommendQuery, ShopperState, Taste
from tests.pipeline.support import NOW_MS, FakeStore, no_hurry, session, viewed


async def page(pipeline: Any, *items: str, **fields: Any) -> Recommendation:
    query = RecommendQuery(context_events=viewed(*items), page_size=100, **fields)
    answer: Recommendation = await pipeline().recommend(query, no_hurry())
    return answer


def sessions() -> list[tuple[str, ...]]:
    return [(f"item-{first}", f"item-{first + 5}", f"item-{first}")[: 1 + first % 3] for first in range(0, 40, 3)]


async def test_no_item_is_a_reason_for_itself(pipeline: Any) -> None:
    for items in sessions():
        for result in (await page(pipeline, *items)).results:
            assert all(result.item_id not in reason.because_item_ids for reason in result.reasons)


async def test_what_was_in_the_session_already_says_so_and_nothing_else_does(pipeline: Any) -> None:
    repeats = 0
    for items in sessions():
        for result in (await page(pipeline, *items)).results:
            labelled = ReasonType.ALREADY_IN_SESSION in {reason.type for reason in result.reasons}
            assert labelled == (result.item_id in items)
            repeats += labelled
            assert len(result.reasons) in (1, 2)
    assert repeats > len(sessions()) / 2


async def test_a_repeat_may_have_another_item_as_its_second_reason(pipeline: Any) -> None:
    answer = await page(pipeline, "item-5", "item-10", candidate_item_ids=("item-5", "item-10"))
    for result, other in zip(sorted(answer.results, key=lambda r: r.item_id), ("item-5", "item-10"), strict=True):
        assert result.reasons[0].text == "You viewed this"
        assert all(reason.because_item_ids == (other,) for reason in result.reasons[1:])


@pytest.mark.parametrize(
    ("kind", "text"), [(EventType.ADD_TO_CART, "In your cart"), (EventType.PURCHASE, "You bought this")]
)
async def test_a_repeat_says_how_it_came_into_the_session(pipeline: Any, kind: EventType, text: str) -> None:
    store = FakeStore(ShopperState(session=session((kind, "item-5"))))
    query = RecommendQuery(session_id="s", candidate_item_ids=("item-5", "item-6"))
    answer = await pipeline(store).recommend(query, no_hurry())
    said = {result.item_id: result.reasons for result in answer.results}
    assert [(reason.type, reason.text) for reason in said["item-5"]] == [(ReasonType.ALREADY_IN_SESSION, text)]


async def test_what_a_shopper_liked_long_ago_is_not_said_to_be_in_the_session(pipeline: Any) -> None:
    profile = Profile(taste=(Taste("item-5", 1.0, NOW_MS),))
    query = RecommendQuery(user_id="u", candidate_item_ids=("item-5",))
    answer = await pipeline(FakeStore(ShopperState(profile=profile))).recommend(query, no_hurry())
    (reason,) = answer.results[0].reasons
    assert (reason.type, reason.because_item_ids) == (ReasonType.SIMILAR_TO, ())
    assert reason.text == "You liked this before"
