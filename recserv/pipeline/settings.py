"""Settings of the request path. Every value is a default that measured well, not tuned to one data set."""

from __future__ import annotations

import msgspec

from recserv.event_weights import EVENT_WEIGHTS
from recserv.types import EventType

TYPE_WEIGHTS_DEFAULT: dict[EventType, float] = {
    kind: weight.context for kind, weight in EVENT_WEIGHTS.items() if weight.context
}


class PipelineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Shares refer to the time that a request has left; weights multiply."""

    exclude_purchased: bool = False
    exclude_cart: bool = True
    """Do not recommend items that are in the cart (if named in candidate_item_ids they are still ranked)."""
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
    """Both for a known user's first answer in a session, with the profile as the only evidence: on The Complete Journey
    HR@20 of the next basket is a tenth higher than with the weight and number that suit a running session.
    """
    covisitation_items_max: int = 8
    search_candidates: int = 40
    search_near: bool = True
    """Search the listed neighbours of the newest items; false: always search the graph."""
    session_knn_candidates: int = 30
    covisitation_candidates: int = 15
    popular_candidates: int = 20
    """Limits of the sources; 0: not asked. Longer lists contained more of the next items on a hold-out of Diginetica
    (83 % among 165 candidates, 75 % among 66), but the ranker gained next to nothing from them.
    """
    state_share: float = 0.4
    search_share: float = 0.6
    rank_share: float = 0.6
    full_answer_min_ms: float = 2.0
    """With less time left than this, popular items answer."""
    exact_category_items_max: int = 2048
    """A category with at most this many items is scanned exactly, since the index would find too few of them."""
