"""The answer of GetContext: the contents of the session, newest first, and how its weight is distributed."""

from __future__ import annotations

from recserv.pipeline.context import Context
from recserv.pipeline.engine import Engine
from recserv.types import ShopperContext, ShopperState

RECENT_ITEMS_MAX = 20
RECENT_SEARCHES_MAX = 10
PURCHASED_ITEMS_MAX = 50
CATEGORIES_MAX = 20


def shopper_context(engine: Engine, state: ShopperState, context: Context) -> ShopperContext:
    events = state.session.events
    items = dict.fromkeys(e.item_id for e in reversed(events) if e.item_id)
    searches = dict.fromkeys(e.search_query for e in reversed(events) if e.search_query)
    return ShopperContext(
        recent_item_ids=tuple(items)[:RECENT_ITEMS_MAX],
        recent_searches=tuple(searches)[:RECENT_SEARCHES_MAX],
        cart_item_ids=tuple(state.profile.cart),
        purchased_item_ids=tuple(p.item_id for p in reversed(state.profile.purchases))[:PURCHASED_ITEMS_MAX],
        event_count=state.profile.event_count,
        category_weights=_category_weights(engine, context),
    )


def _category_weights(engine: Engine, context: Context) -> tuple[tuple[str, float], ...]:
    totals: dict[int, float] = {}
    for at, weight in zip(context.items.tolist(), context.weights.tolist(), strict=True):
        if weight > 0:
            for category in engine.categories_of(at).tolist():
                totals[category] = totals.get(category, 0.0) + weight
    whole = sum(totals.values())
    heaviest = sorted(totals.items(), key=lambda pair: (-pair[1], pair[0]))[:CATEGORIES_MAX]
    names = engine.snapshot.category_names
    return tuple((names[category], weight / whole) for category, weight in heaviest)
