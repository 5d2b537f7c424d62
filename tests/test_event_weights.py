"""The weights of event types, as those who ask see them: none may change unnoticed."""

from __future__ import annotations

from recserv.event_weights import EVENT_WEIGHTS
from recserv.pipeline.settings import PipelineSettings
from recserv.stores.state import taste_weight
from recserv.training.sessions import TYPE_WEIGHTS
from recserv.types import Event, EventType


def test_a_build_learns_from_views_carts_and_purchases() -> None:
    learned = {kind.name: float(TYPE_WEIGHTS[kind]) for kind in EventType if TYPE_WEIGHTS[kind]}
    assert learned == {"VIEW": 1.0, "CLICK": 1.0, "RATE": 1.0, "ADD_TO_CART": 2.0, "PURCHASE": 3.0}


def test_an_answer_goes_by_the_cart_more_than_by_what_is_bought() -> None:
    assert PipelineSettings().type_weights == {
        EventType.VIEW: 1.0,
        EventType.CLICK: 1.0,
        EventType.ADD_TO_CART: 2.0,
        EventType.REMOVE_FROM_CART: -0.3,
        EventType.PURCHASE: 1.5,
        EventType.SEARCH: 1.5,
        EventType.RATE: 1.0,
        EventType.DISLIKE: -1.0,
    }


def test_a_profile_remembers_purchases_longest_and_dislikes_below_zero() -> None:
    tastes = {kind.name: taste_weight(Event(event_type=kind)) for kind in EventType if kind != EventType.RATE}
    assert {name: weight for name, weight in tastes.items() if weight} == {
        "VIEW": 1.0,
        "CLICK": 2.0,
        "ADD_TO_CART": 4.0,
        "PURCHASE": 8.0,
        "DISLIKE": -8.0,
    }


def test_impressions_say_nothing_by_themselves() -> None:
    assert set(EventType) - set(EVENT_WEIGHTS) == {EventType.UNSPECIFIED, EventType.IMPRESSION}
