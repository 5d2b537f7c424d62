"""Pages of one category: what they cost must follow from the page and the category, not from the catalogue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recserv.pipeline.fallback import popular
from recserv.types import RecommendQuery, Source
from tests.pipeline.support import ids, no_hurry, viewed


class Counted(np.ndarray):
    """An order that notes how many of its places were looked at."""

    looked_at = 0

    def __getitem__(self, key: Any) -> Any:
        found = np.asarray(self)[key]
        Counted.looked_at += int(np.size(found))
        return found


def members(snapshot: Any, category: int) -> list[int]:
    offsets = snapshot.item_category_offsets
    held = [
        at for at in range(snapshot.item_count) if category in snapshot.item_categories[offsets[at] : offsets[at + 1]]
    ]
    return [at for at in held if snapshot.available[at]]


def test_a_category_lists_its_available_items_the_most_popular_first(engine: Any, snapshot: Any) -> None:
    place = {at: number for number, at in enumerate(engine.popular_order.tolist())}
    for category in range(len(snapshot.category_names)):
        expected = sorted(members(snapshot, category), key=place.__getitem__)
        assert engine.category_items(category).tolist() == expected
        assert engine.category_size(category) == len(expected)
    assert engine.category_size(-1) == 0


@pytest.mark.parametrize("blocked", [0, 3])
def test_a_page_longer_than_its_category_looks_at_the_category_only(engine: Any, snapshot: Any, blocked: int) -> None:
    category = snapshot.category_number("Toys/puzzle")
    items = engine.category_items(category)
    engine.popular_order = engine.popular_order.view(Counted)
    Counted.looked_at = 0
    page = popular(engine, RecommendQuery(category="Toys/puzzle", page_size=100), items[:blocked].copy(), 100)
    assert Counted.looked_at == 0, "the catalogue was looked through for the few items of a category"
    assert page.items.tolist() == items[blocked:].tolist() != []


@pytest.mark.parametrize("blocked", [0, 30])
def test_a_page_of_the_shop_looks_at_no_more_than_the_page_and_what_is_blocked(engine: Any, blocked: int) -> None:
    order = engine.popular_order
    engine.popular_order = order.view(Counted)
    Counted.looked_at = 0
    page = popular(engine, RecommendQuery(page_size=10), order[:blocked].copy(), 10)
    assert Counted.looked_at <= 10 + blocked
    assert page.items.tolist() == order[blocked : blocked + 10].tolist()


async def test_a_category_smaller_than_the_page_gives_all_it_has(pipeline: Any, engine: Any, snapshot: Any) -> None:
    expected = {engine.items.id(at) for at in members(snapshot, snapshot.category_number("Toys/puzzle"))}
    for events in ((), viewed("item-5")):
        query = RecommendQuery(category="Toys/puzzle", page_size=100, context_events=events)
        answer = await pipeline().recommend(query, no_hurry())
        assert set(ids(answer)) == expected
    cold = await pipeline().recommend(RecommendQuery(category="Toys/puzzle", page_size=100), no_hurry())
    assert {result.source for result in cold.results} == {Source.POPULAR_IN_CATEGORY}


def test_the_masks_of_categories_are_within_their_bytes(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask has as many bytes as the catalogue has items: of a large one fewer are kept."""
    monkeypatch.setattr("recserv.pipeline.engine.CATEGORY_MASKS_BYTES_MAX", 3 * len(engine.items))
    for category in range(6):
        with engine.allowing(category, np.empty(0, np.int32)) as mask:
            assert mask.sum() == engine.category_size(category)
    assert list(engine._category_masks) == [3, 4, 5]
