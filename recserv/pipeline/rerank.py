"""Filters and diversity: what must not be shown, and how alike the shown may be."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from recserv._rerank import diversify
from recserv.pipeline.context import Context
from recserv.pipeline.engine import Engine, Positions
from recserv.pipeline.rank import Ranking
from recserv.pipeline.settings import PipelineSettings
from recserv.types import EventType, RecommendQuery, ShopperState


def blocked_items(
    engine: Engine, state: ShopperState, context: Context, query: RecommendQuery, settings: PipelineSettings
) -> Positions:
    """Distinct positions (int32) that must not be recommended: excluded, anchors, disliked, by setting in the cart, and
    purchased if asked for. An item that was asked for by name in `candidate_item_ids` may be in the cart.
    """
    ids: set[str] = set(query.exclude_item_ids)
    ids.update(query.anchor_item_ids)
    if settings.exclude_cart and not query.candidate_item_ids:
        ids.update(state.profile.cart)
        ids.update(_carted(query))
    exclude_purchased = settings.exclude_purchased if query.exclude_purchased is None else query.exclude_purchased
    if exclude_purchased:
        ids.update(p.item_id for p in state.profile.purchases)
        ids.update(e.item_id for e in query.context_events if e.event_type == EventType.PURCHASE)
    return positions(engine, ids, context.disliked)


def _carted(query: RecommendQuery) -> set[str]:
    """What the request's own events leave in the cart."""
    cart: set[str] = set()
    for event in query.context_events:
        if event.event_type == EventType.ADD_TO_CART:
            cart.add(event.item_id)
        elif event.event_type in (EventType.REMOVE_FROM_CART, EventType.PURCHASE):
            cart.discard(event.item_id)
    return cart


def positions(engine: Engine, ids: Iterable[str], more: Iterable[int] = ()) -> Positions:
    """Distinct known positions of ids, with `more` of them."""
    known = {engine.items.position(item) for item in ids}
    known.update(more)
    known.discard(-1)
    return np.fromiter(known, np.int32, len(known))


def rerank(engine: Engine, ranking: Ranking, query: RecommendQuery) -> Ranking:
    """The page: the best by relevance, or with diversity by maximal marginal relevance over all that were ranked."""
    size = min(query.page_size, len(ranking.items))
    if not query.diversity:
        return ranking.rows(slice(0, size))
    return ranking.rows(diversify(ranking.items, ranking.scores, engine.embeddings, query.diversity, size))
