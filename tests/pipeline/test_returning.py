"""A known user in a session of which nothing is known yet: the profile is all there is to go by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recserv.pipeline.context import ContextBuilder, Role
from recserv.pipeline.engine import Engine
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.settings import PipelineSettings
from recserv.stores.embedded import EmbeddedStore
from recserv.types import (
    DAY_MS,
    EventType,
    Profile,
    RecommendQuery,
    SessionEvent,
    SessionState,
    ShopperState,
    Source,
    Taste,
)
from tests.pipeline.support import NOW_MS, no_hurry, viewed
from tests.stores.past_contract import past_event, past_of

LIKED = 40
PROFILE = Profile(taste=tuple(Taste(f"item-{n}", 8.0, NOW_MS - n * DAY_MS) for n in range(LIKED)), sequence=LIKED)
KNOWN = ShopperState(profile=PROFILE)
SETTINGS = PipelineSettings()


@pytest.fixture
def builder(engine: Engine) -> ContextBuilder:
    return ContextBuilder(engine, SETTINGS)


def test_the_whole_taste_counts_at_the_weight_of_a_session(builder: ContextBuilder, engine: Engine) -> None:
    context = builder.build(KNOWN, RecommendQuery(user_id="u", session_id="new"), NOW_MS)
    assert [engine.items.id(at) for at in context.items] == [f"item-{n}" for n in reversed(range(LIKED))]
    assert context.weights[-1] == SETTINGS.returning_taste_weight
    assert set(context.roles) == {Role.TASTE}
    assert context.events == 0


def test_an_anonymous_session_s_answer_is_made_of_what_it_was(builder: ContextBuilder) -> None:
    context = builder.build(KNOWN, RecommendQuery(session_id="s"), NOW_MS)
    assert len(context.items) == SETTINGS.context_items_max
    assert np.isclose(context.weights[-1], SETTINGS.taste_weight)


ONE_VIEW = SessionState((SessionEvent(int(EventType.VIEW), "item-77", NOW_MS, NOW_MS, 1),), 1)


@pytest.mark.parametrize(
    ("state", "query"),
    [
        (ShopperState(session=ONE_VIEW, profile=PROFILE), RecommendQuery(user_id="u", session_id="s")),
        (KNOWN, RecommendQuery(user_id="u", session_id="s", context_events=viewed("item-77"))),
        (KNOWN, RecommendQuery(user_id="u", session_id="s", anchor_item_ids=("item-77",))),
    ],
    ids=["an event", "the request's own event", "an anchor"],
)
def test_with_anything_of_the_session_the_taste_stands_behind_it(
    builder: ContextBuilder, state: ShopperState, query: RecommendQuery
) -> None:
    context = builder.build(state, query, NOW_MS)
    assert len(context.items) == SETTINGS.context_items_max
    assert context.weights[:-1].max() <= np.float32(SETTINGS.taste_weight)


async def test_the_answer_after_an_import_goes_by_it_though_the_one_before_was_a_moment_ago(
    engine: Engine, tmp_path: Path
) -> None:
    """Contexts are kept by the versions of session and profile: an import gives the profile a new one."""
    store = EmbeddedStore(tmp_path / "state.db", clock=lambda: NOW_MS)
    await store.open()
    try:
        pipeline = RecommendationPipeline(engine, store, SETTINGS, clock=lambda: NOW_MS)
        query = RecommendQuery(user_id="u", session_id="new")
        before = await pipeline.recommend(query, no_hurry())
        bought = [past_event(n, f"item-{n}", NOW_MS - 3 * DAY_MS) for n in range(5)]
        await store.import_pasts("default", [past_of(bought)])
        after = await pipeline.recommend(query, no_hurry())
    finally:
        await store.close()
    assert {result.source for result in before.results} <= {Source.POPULAR, Source.TRENDING}
    assert {result.source for result in after.results} - {Source.POPULAR, Source.TRENDING}
