"""Filters: what must not be shown.

How far it reaches when an item is one of the variants of a product (items with the same `group_id`):

    not available, exclude_item_ids     the item only: another size may be shown
    anchors, cart, disliked, purchased  the product, where they exclude anything: a shopper who looks at the red one,
                                        has it or does not want it is not shown the blue one
    viewed                              nothing is excluded: one variant may be shown again
    candidate_item_ids                  the caller has chosen: all are ranked, and groups do not matter
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from recserv.pipeline.context import Context
from recserv.pipeline.engine import Engine, ItemRows
from recserv.pipeline.settings import PipelineSettings
from recserv.types import EventType, RecommendQuery, ShopperState


def blocked_items(
    engine: Engine, state: ShopperState, context: Context, query: RecommendQuery, settings: PipelineSettings
) -> ItemRows:
    """Distinct item rows (int32) that must not be recommended: excluded items, and with their variants anchors,
    disliked items, those in the cart (by setting) and purchased ones (if the query asks for it). Items named in
    `candidate_item_ids` may be in the cart.
    """
    ids: set[str] = set(query.anchor_item_ids)
    if settings.exclude_cart and not query.candidate_item_ids:
        ids.update(state.profile.cart)
        ids.update(_carted(query))
    exclude_purchased = settings.exclude_purchased if query.exclude_purchased is None else query.exclude_purchased
    if exclude_purchased:
        ids.update(p.item_id for p in state.profile.purchases)
        ids.update(e.item_id for e in query.context_events if e.event_type == EventType.PURCHASE)
    if engine.variants is None or query.candidate_item_ids:
        ids.update(query.exclude_item_ids)
        return item_rows(engine, ids, context.disliked)
    products = engine.variants.with_siblings(item_rows(engine, ids, context.disliked))
    return item_rows(engine, query.exclude_item_ids, products.tolist()) if query.exclude_item_ids else products


def _carted(query: RecommendQuery) -> set[str]:
    """The cart after the request's own events."""
    cart: set[str] = set()
    for event in query.context_events:
        if event.event_type == EventType.ADD_TO_CART:
            cart.add(event.item_id)
        elif event.event_type in (EventType.REMOVE_FROM_CART, EventType.PURCHASE):
            cart.discard(event.item_id)
    return cart


def item_rows(engine: Engine, ids: Iterable[str], more: Iterable[int] = ()) -> ItemRows:
    """Distinct rows of the known ids and of `more`."""
    known = {engine.items.row(item) for item in ids}
    known.update(more)
    known.discard(-1)
    return np.fromiter(known, np.int32, len(known))
