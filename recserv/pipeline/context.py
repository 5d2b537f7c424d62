"""Context: the shopper's state and the request -> weighted distinct items, what the session says of each, one vector.

    taste, cart          what outlives the session, at a low weight, oldest
    session events       type weight x recency x place
    context_events       of the request, after the stored ones
    anchors              heaviest, last: the request is about them

The list sources get each item once, with its newest place and its largest weight. The vector is the sum that the
model's space was learned with: every event counts, by the learned weight of its place and of its item. A search counts
through its words: they have vectors in the same space. Items and words that the model does not know are left out; items
are reported, not guessed.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec
import numpy as np

from recserv._context import aggregate, weigh
from recserv.pipeline.engine import Engine, Floats, Positions
from recserv.pipeline.settings import PipelineSettings
from recserv.types import (
    SESSION_EVENTS_MAX,
    TASTE_HALF_LIFE_MS,
    EventType,
    RecommendQuery,
    ShopperState,
)


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
    session: float32 [m, 3], columns as in `_rank.SESSION_COLUMNS`; events: of the session that name a known item.
    vector: float32 [d] of unit length, or zero where there is nothing to go by; `search`: text and vector of the newest
    search that has any meaning here; `disliked` are never recommended.
    """

    items: Positions
    weights: Floats
    session: Floats
    events: int
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
    count: int
    last: int
    """Number of the item's newest event, counted from the oldest."""
    type_weight: float


class ContextBuilder:
    """Builds contexts under one model. Pure but for it: the same state, query and time give the same context."""

    def __init__(self, engine: Engine, settings: PipelineSettings):
        self._engine = engine
        self._settings = settings
        self._type_weights = np.zeros(len(EventType) + 1, np.float32)
        for kind, weight in settings.type_weights.items():
            self._type_weights[kind] = weight
        self._list_places = (settings.position_decay ** np.arange(SESSION_EVENTS_MAX)).astype(np.float32)

    def build(self, state: ShopperState, query: RecommendQuery, now_ms: int) -> Context:
        draft = _Draft(self._engine)
        if state.profile.taste or state.profile.cart:
            self._add_profile(draft, state, now_ms)
        self._add_events(draft, state, query, now_ms)
        self._add_request(draft, query)
        return draft.context(self._settings.context_items_max)

    def _add_profile(self, draft: _Draft, state: ShopperState, now_ms: int) -> None:
        settings, position = self._settings, self._engine.items.position
        profile = state.profile
        if profile.taste:
            decayed = [
                (t.weight * 0.5 ** ((now_ms - t.time_ms) / TASTE_HALF_LIFE_MS), t.item_id) for t in profile.taste
            ]
            largest = max(1.0, *(weight for weight, _ in decayed))
            for weight, item in sorted(decayed)[-settings.context_items_max :]:
                if weight > 0:
                    draft.put_standing(position(item), settings.taste_weight * weight / largest, Role.TASTE)
        for item in profile.cart:
            draft.put_standing(position(item), settings.cart_weight, Role.IN_CART)

    def _add_events(self, draft: _Draft, state: ShopperState, query: RecommendQuery, now_ms: int) -> None:
        known = self._settings.type_weights
        events = [
            (e.item_id, e.search_query, EventType(e.event_type), max(now_ms - e.event_time_ms, 0) / 1000)
            for e in state.session.events
            if e.event_type in known
        ]
        events += [
            (
                e.item_id,
                e.search_query,
                e.event_type,
                max(now_ms - e.event_time_ms, 0) / 1000 if e.event_time_ms else 0.0,
            )
            for e in query.context_events
            if e.event_type in known
        ]
        if not events:
            return
        kinds = np.array([kind for _, _, kind, _ in events], np.uint8)
        ages_s = np.array([age for *_, age in events], np.float32)
        half_life_s = self._settings.half_life_s
        weights = weigh(kinds, ages_s, self._type_weights, half_life_s, self._list_places).tolist()
        shares = weigh(kinds, ages_s, self._type_weights, half_life_s, self._engine.position_weights).tolist()
        position = self._engine.items.position
        for (item, text, kind, _), weight, share in zip(events, weights, shares, strict=True):
            if kind == EventType.SEARCH:
                draft.put_search(text, share)
            else:
                draft.put_event(position(item), kind, weight, share, known[kind])

    def _add_request(self, draft: _Draft, query: RecommendQuery) -> None:
        position = self._engine.items.position
        for event in query.context_events:
            if event.item_id and position(event.item_id) < 0:
                draft.missing[event.item_id] = None
        for item in query.anchor_item_ids:
            at = position(item)
            if at >= 0:
                draft.put_anchor(at, self._settings.anchor_weight)
            else:
                draft.missing[item] = None
        for item in query.candidate_item_ids:
            if position(item) < 0:
                draft.missing[item] = None


class _Draft:
    """A context in the making: entries by position, oldest first, and the terms of the vector's sum."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self._entries: dict[int, _Entry] = {}
        self._terms: list[int] = []
        self._term_weights: list[float] = []
        self._beside: Floats | None = None
        self._search: tuple[str, Floats] | None = None
        self._disliked: set[int] = set()
        self._events = 0
        self.missing: dict[str, None] = {}

    def put_standing(self, at: int, weight: float, role: Role) -> None:
        """Of the profile: it has no place in the session."""
        if at >= 0:
            self._put(at, weight, role, 0, 0.0)
            self._term(at, weight * self._engine.oldest_position_weight)

    def put_event(self, at: int, kind: EventType, weight: float, share: float, type_weight: float) -> None:
        if at < 0:
            return
        self._events += 1
        self._put(at, weight, ROLE_OF[kind], 1, type_weight)
        self._term(at, share)
        if kind == EventType.DISLIKE:
            self._disliked.add(at)
        else:
            self._disliked.discard(at)

    def put_search(self, text: str, share: float) -> None:
        meaning = self._engine.snapshot.words.vector(text)
        if meaning is not None:
            self._search = (text, meaning)
            term = meaning * np.float32(share)
            self._beside = term if self._beside is None else self._beside + term

    def put_anchor(self, at: int, weight: float) -> None:
        self._events += 1
        self._put(at, weight, Role.ANCHOR, 1, 1.0)
        self._term(at, weight)

    def _term(self, at: int, weight: float) -> None:
        self._terms.append(at)
        self._term_weights.append(weight)

    def _put(self, at: int, weight: float, role: Role, count: int, type_weight: float) -> None:
        """The newest place; the largest weight unless the newest word on the item is a rejection."""
        known = self._entries.pop(at, None)
        if known is not None:
            count += known.count
            if Role.REJECTED not in (role, known.role):
                weight, type_weight = max(weight, known.weight), max(type_weight, known.type_weight)
                if known.role in (Role.IN_CART, Role.BOUGHT) and role == Role.VIEWED:
                    role = known.role
        self._entries[at] = _Entry(weight, role, count, self._events, type_weight)

    def context(self, items_max: int) -> Context:
        kept = list(self._entries.items())[-items_max:]
        entries = [entry for _, entry in kept]
        table = [(entry.count, self._events - entry.last, entry.type_weight) for entry in entries]
        engine = self._engine
        return Context(
            items=np.array([at for at, _ in kept], np.int32),
            weights=np.array([entry.weight for entry in entries], np.float32),
            session=np.array(table, np.float32).reshape(-1, 3),
            events=self._events,
            roles=tuple([entry.role for entry in entries]),
            vector=aggregate(
                np.array(self._terms, np.int32),
                np.array(self._term_weights, np.float32),
                engine.importance,
                engine.embeddings,
                self._beside,
            ),
            search=self._search,
            disliked=tuple(self._disliked),
            missing_item_ids=tuple(self.missing),
        )
