"""Context: the shopper's state and the request -> weighted distinct items and one vector.

    taste, cart          what outlives the session, at a low weight, oldest
    session events       type weight x recency x position decay
    context_events       of the request, after the stored ones
    anchors              heaviest, last: the request is about them

An item counts once, with its newest place and its largest weight. A search counts through its words: they have vectors
in the items' space, and stand beside the items in the sum. Items and words that the model does not know are left out;
items are reported, not guessed.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec
import numpy as np

from recserv._context import aggregate, weigh
from recserv.pipeline.engine import Engine, Floats, Positions
from recserv.pipeline.settings import PipelineSettings
from recserv.types import (
    TASTE_HALF_LIFE_MS,
    EventType,
    RecommendQuery,
    ShopperContext,
    ShopperState,
)

RECENT_ITEMS_MAX = 20
RECENT_SEARCHES_MAX = 10
PURCHASED_ITEMS_MAX = 50
CATEGORIES_MAX = 20


class Role(IntEnum):
    """How an item came into the context: it decides how a reason speaks of it. Later roles of an item win."""

    TASTE = 0
    VIEWED = 1
    IN_CART = 2
    BOUGHT = 3
    REJECTED = 4
    ANCHOR = 5


ROLE_OF = {
    EventType.VIEW: Role.VIEWED,
    EventType.CLICK: Role.VIEWED,
    EventType.RATE: Role.VIEWED,
    EventType.ADD_TO_CART: Role.IN_CART,
    EventType.REMOVE_FROM_CART: Role.REJECTED,
    EventType.DISLIKE: Role.REJECTED,
    EventType.PURCHASE: Role.BOUGHT,
}


class Context(msgspec.Struct, frozen=True):
    """items: int32 [m], distinct, oldest first, at most settings.context_items_max; weights: float32 [m]; roles [m];
    vector: float32 [d] of unit length, or zero where there is nothing to go by; `search`: text and vector of the newest
    search that has any meaning here; `disliked` are never recommended.
    """

    items: Positions
    weights: Floats
    roles: tuple[Role, ...]
    vector: Floats
    search: tuple[str, Floats] | None
    disliked: tuple[int, ...]
    missing_item_ids: tuple[str, ...]

    @property
    def empty(self) -> bool:
        return len(self.items) == 0


class _Entry(msgspec.Struct, gc=False):
    weight: float
    role: Role


def build_context(
    engine: Engine, state: ShopperState, query: RecommendQuery, settings: PipelineSettings, now_ms: int
) -> Context:
    """Pure but for the model: the same state, query and time give the same context."""
    position = engine.items.position
    entries: dict[int, _Entry] = {}
    missing: dict[str, None] = {}
    _add_profile(entries, engine, state, settings, now_ms)
    disliked: set[int] = set()
    beside: Floats | None = None
    search: tuple[str, Floats] | None = None
    for item, text, kind, weight in _weighted_events(state, query, settings, now_ms):
        if kind == EventType.SEARCH:
            meaning = engine.snapshot.words.vector(text)
            if meaning is not None:
                search = (text, meaning)
                beside = meaning * np.float32(weight) if beside is None else beside + meaning * np.float32(weight)
            continue
        at = position(item)
        if at >= 0:
            _put(entries, at, weight, ROLE_OF[kind])
            if kind == EventType.DISLIKE:
                disliked.add(at)
            else:
                disliked.discard(at)
    for event in query.context_events:
        if event.item_id and position(event.item_id) < 0:
            missing[event.item_id] = None
    for item in query.anchor_item_ids:
        at = position(item)
        if at >= 0:
            _put(entries, at, settings.anchor_weight, Role.ANCHOR)
        else:
            missing[item] = None
    for item in query.candidate_item_ids:
        if position(item) < 0:
            missing[item] = None
    kept = list(entries.items())[-settings.context_items_max :]
    items = np.array([at for at, _ in kept], np.int32)
    weights = np.array([entry.weight for _, entry in kept], np.float32)
    vector = aggregate(items, weights, engine.embeddings, beside)
    roles = tuple(entry.role for _, entry in kept)
    return Context(items, weights, roles, vector, search, tuple(disliked), tuple(missing))


def _put(entries: dict[int, _Entry], at: int, weight: float, role: Role) -> None:
    """The newest place; the largest weight unless the newest word on the item is a rejection."""
    known = entries.pop(at, None)
    if known is not None and Role.REJECTED not in (role, known.role):
        weight = max(weight, known.weight)
        if known.role in (Role.IN_CART, Role.BOUGHT) and role == Role.VIEWED:
            role = known.role
    entries[at] = _Entry(weight, role)


def _add_profile(
    entries: dict[int, _Entry], engine: Engine, state: ShopperState, settings: PipelineSettings, now_ms: int
) -> None:
    profile = state.profile
    if profile.taste:
        decayed = [(t.weight * 0.5 ** ((now_ms - t.time_ms) / TASTE_HALF_LIFE_MS), t.item_id) for t in profile.taste]
        largest = max(1.0, *(weight for weight, _ in decayed))
        for weight, item in sorted(decayed)[-settings.context_items_max :]:
            at = engine.items.position(item)
            if at >= 0 and weight > 0:
                _put(entries, at, settings.taste_weight * weight / largest, Role.TASTE)
    for item in profile.cart:
        at = engine.items.position(item)
        if at >= 0:
            _put(entries, at, settings.cart_weight, Role.IN_CART)


def _weighted_events(
    state: ShopperState, query: RecommendQuery, settings: PipelineSettings, now_ms: int
) -> list[tuple[str, str, EventType, float]]:
    """Item id, search text, type and weight of the events of the session, then of the request, oldest first."""
    events = [
        (e.item_id, e.search_query, EventType(e.event_type), now_ms - e.event_time_ms)
        for e in state.session.events
        if e.event_type in settings.type_weights
    ]
    events += [
        (e.item_id, e.search_query, e.event_type, now_ms - e.event_time_ms if e.event_time_ms else 0)
        for e in query.context_events
        if e.event_type in settings.type_weights
    ]
    if not events:
        return []
    table = np.zeros(len(EventType), np.float32)
    for kind, weight in settings.type_weights.items():
        table[kind] = weight
    kinds = np.array([kind for _, _, kind, _ in events], np.uint8)
    ages = np.array([max(age, 0) / 1000 for *_, age in events], np.float32)
    weights = weigh(kinds, ages, table, settings.half_life_s, settings.position_decay)
    return [(*event[:3], weight) for event, weight in zip(events, weights.tolist(), strict=True)]


def shopper_context(engine: Engine, state: ShopperState, context: Context) -> ShopperContext:
    """The answer of GetContext: what the session says, newest first, and where its weight lies."""
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
