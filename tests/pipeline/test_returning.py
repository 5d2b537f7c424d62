"""A known user in a session of which nothing is known yet: the profile is all there is to go by."""

from __future__ import annotations

import numpy as np
import pytest

from recserv.pipeline.context import ContextBuilder, Role
from recserv.pipeline.engine import Engine
from recserv.pipeline.settings import PipelineSettings
from recserv.types import (
    DAY_MS,
    EventType,
    Profile,
    RecommendQuery,
    SessionEvent,
    SessionState,
    ShopperState,
    Taste,
)
from tests.pipeline.support import NOW_MS, viewed

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
