"""Where a search is told to look: in the neighbourhood of the items that the context vector was made of."""

from __future__ import annotations

import pytest

from recserv.pipeline.context import ContextBuilder
from recserv.pipeline.engine import Engine
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.settings import PipelineSettings
from recserv.types import Event, EventType, Profile, RecommendQuery, ShopperState, Taste
from tests.pipeline.support import NOW_MS, no_hurry, viewed

SHOVEL = Event(event_type=EventType.SEARCH, search_query="shovel")


class Listening:
    """An index that remembers where it was told to look."""

    def __init__(self, index, bounded=True):
        self._index, self.bounded, self.near = index, bounded, []
        self.size, self.dimensions = index.size, index.dimensions

    def search(self, query, k, near):
        self.near.append(near.tolist())
        return self._index.search(query, k, near)


async def asked(snapshot, index, query, *, bounded=True, settings=None):
    """Ids of the items that the one search of a request was told to look near to."""
    listening = Listening(index, bounded)
    engine = Engine(snapshot, listening)
    pipeline = RecommendationPipeline(engine, None, settings or PipelineSettings(), clock=lambda: NOW_MS)
    answer = await pipeline.recommend(query, no_hurry())
    engine.close()
    assert not answer.degraded_reasons
    [near] = listening.near
    return [snapshot.items.id(at) for at in near]


@pytest.mark.parametrize("bounded", [True, False], ids=["on the spot", "on the thread"])
async def test_it_looks_near_the_items_of_the_session_the_newest_last(snapshot, index, bounded):
    query = RecommendQuery(context_events=viewed("item-5", "item-6", "item-5", "item-7"))
    assert await asked(snapshot, index, query, bounded=bounded) == ["item-6", "item-5", "item-7"]


async def test_it_looks_near_anchors(snapshot, index):
    assert await asked(snapshot, index, RecommendQuery(anchor_item_ids=("item-5",))) == ["item-5"]


async def test_it_does_not_look_near_what_was_rejected(snapshot, index):
    dislike = Event(event_type=EventType.DISLIKE, item_id="item-6")
    query = RecommendQuery(context_events=(*viewed("item-5", "item-6", "item-7"), dislike))
    assert await asked(snapshot, index, query) == ["item-5", "item-7"]


@pytest.mark.parametrize(
    "query",
    [
        RecommendQuery(context_events=(*viewed("item-5"), SHOVEL)),
        RecommendQuery(context_events=viewed("item-5"), category="Garden"),
    ],
    ids=["words", "a category"],
)
async def test_where_more_than_items_decides_it_looks_everywhere(snapshot, index, query):
    settings = PipelineSettings(exact_category_items_max=1)
    assert await asked(snapshot, index, query, settings=settings) == []


def test_a_taste_without_a_session_gives_no_items_to_search_near(engine):
    taste = ShopperState(profile=Profile(taste=(Taste("item-5", 1.0, NOW_MS),)))
    builder = ContextBuilder(engine, PipelineSettings())
    alone = builder.build(taste, RecommendQuery(), NOW_MS)
    assert (len(alone.items), len(alone.near)) == (1, 0)
    beside = builder.build(taste, RecommendQuery(context_events=viewed("item-6")), NOW_MS)
    assert [engine.items.id(at) for at in beside.near] == ["item-5", "item-6"]


async def test_search_near_off_searches_the_whole_graph(snapshot, index):
    query = RecommendQuery(context_events=viewed("item-5"))
    assert await asked(snapshot, index, query, settings=PipelineSettings(search_near=False)) == []
