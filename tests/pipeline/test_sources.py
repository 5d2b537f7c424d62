"""The sources: what tells them apart, what each is credited with, what they do with the items that a request names."""

from __future__ import annotations

import numpy as np
import pytest

from recserv.pipeline.explain import source_of
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.sources import SOURCES
from recserv.pipeline.sources.base import ALL, REQUESTED, Inquiry
from recserv.pipeline.sources.context_vector import ContextVector
from recserv.pipeline.sources.covisitation import Covisitation
from recserv.pipeline.sources.popular import Popular, PopularInCategory
from recserv.pipeline.sources.session_knn import SessionKnn
from recserv.ranking_features import CONTRIBUTION_NAMES
from recserv.types import DegradedReason, RecommendQuery, Source
from tests.pipeline.support import ids, no_hurry, viewed


def contributions(**values: float) -> list[float]:
    return [values.get(name, 0.0) for name in CONTRIBUTION_NAMES]


def test_each_source_has_a_bit_of_its_own_that_a_row_can_hold():
    bits = [kind.bit for kind in SOURCES] + [REQUESTED]
    assert [bit.bit_count() for bit in bits] == [1] * len(bits)
    assert len(set(bits)) == len(bits)
    assert max(bits) <= np.iinfo(np.uint8).max


def test_what_a_source_has_a_limit_by_is_a_setting():
    named = [kind.setting for kind in SOURCES if kind.setting]
    assert set(named) <= set(PipelineSettings.__struct_fields__)
    assert all(bool(kind.setting) == bool(kind.alone) for kind in SOURCES)


def inquiry(engine, *viewed_items: str, **changes) -> Inquiry:
    items = np.array([engine.items.row(item) for item in viewed_items], np.int32)
    fields = {
        "settings": PipelineSettings(),
        "items": items,
        "weights": np.linspace(0.5, 1.0, len(items), dtype=np.float32),
        "directed": bool(len(items)),
        "neighbours": (np.array([3, 1, 2], np.int32), np.array([0.9, 0.8, 0.7], np.float32)),
        "allowed": np.ones(len(engine.items), np.uint8),
        "category": None,
        "small": False,
        "requested": None,
        "page_size": 10,
        "extra": 0,
    }
    return Inquiry(**{**fields, **changes})


@pytest.mark.parametrize("kind", [Covisitation, SessionKnn])
def test_a_source_scores_what_it_finds_as_it_found_it(engine, kind):
    source = next(source for source in engine.sources if type(source) is kind)
    asked = inquiry(engine, "item-5", "item-10")
    items, scores = source.top(asked, source.limit(asked))
    assert len(set(items.tolist())) == len(items) > 3
    assert (scores[:-1] >= scores[1:]).all()
    assert scores[-1] > 0
    np.testing.assert_array_equal(source.score(asked, items), scores)
    assert source.score(asked, np.setdiff1d(np.arange(200, dtype=np.int32), items)).max() <= scores[-1]


@pytest.mark.parametrize("kind", [Covisitation, SessionKnn])
def test_a_source_that_goes_by_the_context_finds_nothing_without_one(engine, kind):
    source = next(source for source in engine.sources if type(source) is kind)
    asked = inquiry(engine)
    assert len(source.top(asked, 5)[0]) == 0
    assert source.score(asked, np.arange(3, dtype=np.int32)) is None


@pytest.mark.parametrize("kind", [Covisitation, SessionKnn, Popular])
def test_a_setting_of_zero_asks_a_source_for_nothing(engine, kind):
    source = next(source for source in engine.sources if type(source) is kind)
    asked = inquiry(engine, "item-5", extra=20)
    assert source.limit(asked) > 0
    assert source.limit(inquiry(engine, "item-5", extra=20, settings=PipelineSettings(**{kind.setting: 0}))) == 0


@pytest.mark.parametrize("directed", [True, False])
def test_all_of_a_small_category_are_candidates_by_the_vector_if_there_is_one(engine, directed):
    toys = engine.snapshot.category_number("Toys")
    asked = inquiry(engine, category=toys, small=True, directed=directed)
    vector, popular = (kind(engine).top(asked, ALL)[0].tolist() for kind in (ContextVector, PopularInCategory))
    members = engine.category_items(toys).tolist()
    assert (vector if directed else popular) == members
    assert set(popular) <= set(members)
    assert directed or vector == []


CREDITED = {
    "the largest contribution": (
        Covisitation.bit | SessionKnn.bit,
        {"covisitation": 1.0, "session_knn": 2.0},
        Source.SESSION_KNN,
    ),
    "the largest contribution of those that brought it up": (
        Covisitation.bit,
        {"covisitation": 1.0, "session_knn": 2.0},
        Source.COVISITATION,
    ),
    "equal contributions": (ContextVector.bit | SessionKnn.bit, {}, Source.CONTEXT_VECTOR),
    "popular lately": (Popular.bit, {"popular": 1.0, "trending": 2.0}, Source.TRENDING),
    "popular lately in a category": (PopularInCategory.bit, {"trending": 2.0}, Source.POPULAR_IN_CATEGORY),
    "popular in a category and overall": (
        PopularInCategory.bit | Popular.bit,
        {"popular": 1.0},
        Source.POPULAR_IN_CATEGORY,
    ),
    "asked for, near": (REQUESTED, {"context_vector": 1.0, "session_knn": 2.0}, Source.CONTEXT_VECTOR),
    "asked for, popular": (REQUESTED, {"popular": 1.0, "context_vector": 0.5}, Source.POPULAR),
    "asked for alone": (REQUESTED, {"covisitation": 1.0, "context_vector": -1.0}, Source.REQUESTED),
}


@pytest.mark.parametrize("case", CREDITED)
def test_a_result_is_told_by_the_source_that_contributes_most(case):
    source_mask, values, expected = CREDITED[case]
    assert source_of(contributions(**values), source_mask) == expected


async def test_a_source_that_cannot_score_what_was_asked_for_is_named_and_the_others_do(engine, monkeypatch):
    def broken(*args):
        raise MemoryError

    requested = ("item-7", "item-9", "item-11")
    monkeypatch.setattr(SessionKnn, "score", broken)
    query = RecommendQuery(context_events=viewed("item-5"), candidate_item_ids=requested)
    answer = await RecommendationPipeline(engine, None, PipelineSettings()).recommend(query, no_hurry())
    assert answer.degraded_reasons == (DegradedReason.SOURCE_UNAVAILABLE,)
    assert sorted(ids(answer)) == sorted(requested)
