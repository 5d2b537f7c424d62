"""Variants of one product on a page: one of them, and what a request says of one counts for which."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pytest

from recserv.index.listed import ListedIndex
from recserv.model.snapshot import load_popular, load_snapshot
from recserv.model.writer import save_snapshot
from recserv.pipeline.engine import Engine
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.rank import Ranking
from recserv.pipeline.rerank import rerank
from recserv.pipeline.settings import PipelineSettings
from recserv.resilience.deadline import Deadline
from recserv.training.assemble import assemble
from recserv.training.options import BuildOptions
from recserv.training.ranker import PLAIN_RANKER
from recserv.types import (
    DegradedReason,
    Event,
    EventType,
    Profile,
    Purchase,
    RecommendQuery,
    SessionState,
    ShopperState,
)
from tests.factories import grouped_catalog, tiny_log
from tests.pipeline.support import NOW_MS, FakeStore, ids, no_hurry, no_time_passes, session, viewed

ITEMS = 200
GROUPED = 136
GROUP_OF = {f"item-{n}": f"g{n // 4}" for n in range(GROUPED)}
"""Products of four variants each; every 50th item is not available."""
PRODUCTS = GROUPED // 4 + ITEMS - GROUPED - 2
"""That can be shown: fewer than the largest page holds."""


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    path = tmp_path_factory.mktemp("grouped") / "model"
    options = BuildOptions(events=("made up",), out=str(path), dimensions=16, epochs=1.0)
    contents, _ = assemble(tiny_log(ITEMS, 400), grouped_catalog(ITEMS, GROUP_OF), options)
    save_snapshot(contents.ranked_by(PLAIN_RANKER), path, durable=False)
    return path


class Watched:
    """An index that notes how much it was asked for."""

    def __init__(self, index):
        self._index, self.asked = index, []

    def search(self, query, k, near):
        self.asked.append(k)
        return self._index.search(query, k, near)

    def __getattr__(self, name):
        return getattr(self._index, name)


@pytest.fixture
def engine(grouped):
    snapshot = load_snapshot(grouped)
    with snapshot.verified_index() as path:
        index = Watched(ListedIndex.load(path, snapshot.embeddings, snapshot.nearest_items))
    engine = Engine(snapshot, index, clock=no_time_passes)
    engine.watched = index
    yield engine
    engine.close()


def products(items):
    return Counter(GROUP_OF.get(item, item) for item in items)


def assert_one_of_each(items, count):
    assert len(items) == count
    assert max(products(items).values(), default=0) <= 1, items


QUERIES = {
    "cold": RecommendQuery(),
    "one view": RecommendQuery(context_events=viewed("item-5")),
    "views of variants": RecommendQuery(context_events=viewed("item-4", "item-5", "item-6", "item-0")),
    "views of others": RecommendQuery(context_events=viewed("item-150", "item-140")),
    "anchor": RecommendQuery(anchor_item_ids=("item-9",)),
    "search": RecommendQuery(context_events=(Event(event_type=EventType.SEARCH, search_query="lamp"),)),
    "diverse": RecommendQuery(context_events=viewed("item-5"), diversity=0.4),
}


@pytest.mark.parametrize("size", [1, 10, 60, 100])
@pytest.mark.parametrize("name", QUERIES)
async def test_a_page_has_one_variant_of_a_product_and_is_full(engine, name, size):
    query = msgspec.structs.replace(QUERIES[name], page_size=size)
    answer = await RecommendationPipeline(engine, None, PipelineSettings(), clock=lambda: NOW_MS).recommend(
        query, no_hurry()
    )
    assert_one_of_each(ids(answer), min(size, PRODUCTS - len(query.anchor_item_ids)))
    assert all(one.score >= next_.score for one, next_ in zip(answer.results, answer.results[1:], strict=False)) or (
        name == "diverse"
    )


@pytest.mark.parametrize("small", [True, False])
async def test_a_page_of_a_category_has_one_variant_of_a_product(engine, small):
    settings = PipelineSettings() if small else PipelineSettings(exact_category_items_max=1)
    pipeline = RecommendationPipeline(engine, None, settings, clock=lambda: NOW_MS)
    query = RecommendQuery(category="Toys", page_size=100, context_events=viewed("item-2"))
    toys = engine.category_items(engine.snapshot.category_number("Toys"))
    shown = products(engine.items.id(at) for at in toys)
    assert_one_of_each(ids(await pipeline.recommend(query, no_hurry())), len(shown))


@pytest.mark.parametrize("why", ["overload", "deadline", "damaged model"])
async def test_popular_pages_show_one_variant_of_a_product(engine, grouped, why):
    if why == "damaged model":
        engine = Engine(load_popular(grouped), None)
    pipeline = RecommendationPipeline(engine, None, PipelineSettings(), clock=lambda: NOW_MS)
    deadline = Deadline(0.0) if why == "deadline" else no_hurry()
    for query in (
        RecommendQuery(page_size=50),
        RecommendQuery(page_size=50, exclude_item_ids=("item-0",)),
        RecommendQuery(page_size=50, return_items=True),
    ):
        answer = await pipeline.recommend(query, deadline, overloaded=why == "overload")
        assert answer.degraded_reasons
        assert_one_of_each(ids(answer), 50)


async def shown_of(engine, query, store=None, **settings):
    pipeline = RecommendationPipeline(engine, store, PipelineSettings(**settings), clock=lambda: NOW_MS)
    answer = await pipeline.recommend(msgspec.structs.replace(query, page_size=100), no_hurry())
    assert DegradedReason.STAGE_FAILED not in answer.degraded_reasons
    return ids(answer)


GROUP = ("item-8", "item-9", "item-10", "item-11")


def of_group(items):
    return [item for item in items if item in GROUP]


async def test_a_variant_that_is_not_available_or_excluded_does_not_hide_the_others(engine):
    shown = await shown_of(engine, RecommendQuery())
    assert [item for item in shown if GROUP_OF.get(item) == "g12"]  # item-49 of it is out of stock
    for left in range(len(GROUP), 0, -1):
        excluded = RecommendQuery(exclude_item_ids=GROUP[: len(GROUP) - left], context_events=viewed("item-8"))
        found = of_group(await shown_of(engine, excluded))
        assert len(found) == 1
        assert found[0] not in excluded.exclude_item_ids
    assert of_group(await shown_of(engine, RecommendQuery(exclude_item_ids=GROUP))) == []


async def test_a_variant_that_was_viewed_leaves_one_of_its_product(engine):
    assert len(of_group(await shown_of(engine, RecommendQuery(context_events=viewed("item-9"))))) == 1


@pytest.mark.parametrize(
    ("query", "settings"),
    [
        (RecommendQuery(anchor_item_ids=("item-9",)), {}),
        (RecommendQuery(context_events=(Event(event_type=EventType.ADD_TO_CART, item_id="item-9"),)), {}),
        (RecommendQuery(context_events=(Event(event_type=EventType.DISLIKE, item_id="item-9"),)), {}),
        (
            RecommendQuery(
                context_events=(Event(event_type=EventType.PURCHASE, item_id="item-9"),), exclude_purchased=True
            ),
            {},
        ),
    ],
    ids=["anchor", "cart", "disliked", "purchased"],
)
async def test_what_rules_out_a_product_rules_out_all_its_variants(engine, query, settings):
    assert of_group(await shown_of(engine, query, **settings)) == []


async def test_what_is_stored_of_a_product_counts_for_its_variants(engine):
    stored = ShopperState(
        session=session((EventType.VIEW, "item-140")),
        profile=Profile(cart={"item-8": 1}, purchases=(Purchase("item-13", NOW_MS),)),
    )
    query = RecommendQuery(session_id="s", exclude_purchased=True)
    shown = products(await shown_of(engine, query, FakeStore(stored)))
    assert "g2" not in shown
    assert "g3" not in shown
    assert "g3" in products(await shown_of(engine, RecommendQuery(session_id="s"), FakeStore(stored)))


async def test_candidates_are_all_ranked_whatever_they_are_variants_of(engine):
    query = RecommendQuery(candidate_item_ids=(*GROUP, "item-150"), context_events=viewed("item-8"))
    assert set(await shown_of(engine, query)) == {*GROUP, "item-150"}
    anchored = msgspec.structs.replace(query, anchor_item_ids=("item-9",))
    assert set(await shown_of(engine, anchored)) == {*GROUP, "item-150"} - {"item-9"}
    pipeline = RecommendationPipeline(engine, None, PipelineSettings())
    popular = await pipeline.recommend(query, no_hurry(), overloaded=True)
    assert set(ids(popular)) == {*GROUP, "item-150"}


async def test_variants_that_are_ruled_out_do_not_widen_the_search(engine):
    pipeline = RecommendationPipeline(engine, None, PipelineSettings(), clock=lambda: NOW_MS)
    for anchors in (("item-9",), ("item-150",)):
        await pipeline.recommend(RecommendQuery(anchor_item_ids=anchors), no_hurry())
    one, other = engine.watched.asked
    assert one == other


def test_the_best_variant_by_score_is_the_one_that_is_shown(engine):
    items = np.array([engine.items.row(name) for name in ("item-10", "item-150", "item-8", "item-9")], np.int32)
    nothing = np.zeros((4, 1), np.float32)
    ranking = Ranking(items, np.array([4, 3, 2, 1], np.float32), nothing, nothing, np.zeros(4, np.uint8))
    for diversity in (None, 0.9):
        page = rerank(engine, ranking, RecommendQuery(diversity=diversity, page_size=4))
        assert page.items.tolist() == items[:2].tolist()


async def test_an_empty_session_of_a_model_with_variants_is_a_cold_start(engine):
    store = FakeStore(ShopperState(session=SessionState()))
    assert_one_of_each(await shown_of(engine, RecommendQuery(session_id="s"), store), PRODUCTS)
