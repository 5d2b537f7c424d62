"""What the request path can be told. Every value is a default that measured well, not a constant of some data set."""

from __future__ import annotations

import msgspec

from recserv.event_weights import EVENT_WEIGHTS
from recserv.types import EventType

TYPE_WEIGHTS_DEFAULT: dict[EventType, float] = {
    kind: weight.context for kind, weight in EVENT_WEIGHTS.items() if weight.context
}


class PipelineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Shares are of the time that a request has left; weights multiply."""

    exclude_purchased: bool = False
    exclude_cart: bool = True
    """An item that lies in the cart is not recommended again (candidate_item_ids still ranks it)."""
    context_cache: bool = True
    context_cache_bytes: int = 64 * 1024 * 1024
    type_weights: dict[EventType, float] = msgspec.field(default_factory=TYPE_WEIGHTS_DEFAULT.copy)
    half_life_s: float = 15 * 60.0
    position_decay: float = 0.7
    cart_weight: float = 1.0
    taste_weight: float = 0.3
    returning_taste_weight: float = 1.0
    anchor_weight: float = 4.0
    context_items_max: int = 20
    returning_items_max: int = 50
    """Both of a known user's first answer in a session, where there is the profile alone: on The Complete Journey HR@20
    of the next basket is a tenth higher than with the weight and the number that do beside a session.
    """
    covisitation_items_max: int = 8
    search_candidates: int = 40
    search_near: bool = True
    """Among the listed neighbours of the newest items; false: always in the graph."""
    session_knn_candidates: int = 30
    covisitation_candidates: int = 15
    popular_candidates: int = 20
    """0: not asked. Wider lists held more of the next items of a hold-out of Diginetica (83 % among 165, 75 % among
    66 candidates), of which the ranker made next to no use.
    """
    state_share: float = 0.4
    search_share: float = 0.6
    rank_share: float = 0.6
    full_answer_min_ms: float = 2.0
    """With less than this left, the popular snapshot answers."""
    exact_category_items_max: int = 2048
    """A category with at most so many items is searched exactly; the index would find too few of them."""
