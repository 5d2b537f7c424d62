"""The sources: what tells them apart, what each is credited with, what they do with the items that a request names."""

from __future__ import annotations

import numpy as np
import pytest

from recserv.pipeline.explain import source_of
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.sources import SOURCES
from recserv.pipeline.sources.base import REQUESTED
from recserv.pipeline.sources.context_vector import ContextVector
from recserv.pipeline.sources.covisitation import Covisitation
from recserv.pipeline.sources.popular import Popular, PopularInCategory
from recserv.pipeline.sources.session_knn import SessionKnn
from recserv.ranking_features import SHARE_NAMES
from recserv.types import DegradedReason, RecommendQuery, Source
from tests.pipeline.support import ids, no_hurry, viewed


def shares(**values: float) -> list[float]:
    return [values.get(name, 0.0) for name in SHARE_NAMES]


def test_each_source_has_a_bit_of_its_own_that_a_row_can_hold():
    bits = [kind.bit for kind in SOURCES] + [REQUESTED]
    assert [bit.bit_count() for bit in bits] == [1] * len(bits)
    assert len(set(bits)) == len(bits)
    assert max(bits) <= np.iinfo(np.uint8).max


def test_what_a_source_has_a_limit_by_is_a_setting():
    named = [kind.setting for kind in SOURCES if kind.setting]
    assert set(named) <= set(PipelineSettings.__struct_fields__)
    assert all(bool(kind.setting) == bool(kind.alone) for kind in SOURCES)


NAMED = {
    "the largest share": (
        Covisitation.bit | SessionKnn.bit,
        {"covisitation": 1.0, "session_knn": 2.0},
        Source.SESSION_KNN,
    ),
    "the largest share of those that named it": (
        Covisitation.bit,
        {"covisitation": 1.0, "session_knn": 2.0},
        Source.COVISITATION,
    ),
    "equal shares": (ContextVector.bit | SessionKnn.bit, {}, Source.CONTEXT_VECTOR),
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


@pytest.mark.parametrize("case", NAMED)
def test_a_result_is_told_by_the_source_with_the_largest_share(case):
    named, values, expected = NAMED[case]
    assert source_of(shares(**values), named) == expected


async def test_a_source_that_cannot_score_what_was_asked_for_is_named_and_the_others_do(engine, monkeypatch):
    def broken(*args):
        raise MemoryError

    wanted = ("item-7", "item-9", "item-11")
    monkeypatch.setattr(SessionKnn, "score", broken)
    query = RecommendQuery(context_events=viewed("item-5"), candidate_item_ids=wanted)
    answer = await RecommendationPipeline(engine, None, PipelineSettings()).recommend(query, no_hurry())
    assert answer.degraded_reasons == (DegradedReason.SOURCE_UNAVAILABLE,)
    assert sorted(ids(answer)) == sorted(wanted)
