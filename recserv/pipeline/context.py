"""Context: the shopper's state and the request -> weighted distinct items, what the session says of each, one vector.

    taste, cart          what outlives the session, at a low weight, oldest; more of it, at the weight of a session,
                         for a known user in a session of which nothing is known yet
    session events       type weight x recency x place
    context_events       of the request, after the stored ones
    anchors              heaviest, last: the request is about them

The list sources get each item once, at its newest place and with its largest weight. The vector is the same sum that
the model's space was trained on: every event contributes, by the learned weights of its place and its item. A search
contributes through its words, which have vectors in the same space. Items and words that the model does not know are
left out; unknown items are reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import msgspec
import numpy as np
import numpy.typing as npt

from recserv._codec import session_columns
from recserv._context import aggregate, weigh
from recserv.index.base import NOWHERE
from recserv.pipeline.engine import Engine, Floats, ItemRows
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.word_search import WordQuery
from recserv.types import (
    SESSION_EVENTS_MAX,
    TASTE_HALF_LIFE_MS,
    Event,
    EventType,
    PackedSession,
    RecommendQuery,
    SessionEvent,
    SessionState,
    ShopperState,
)


class Role(IntEnum):
    """How an item entered the context, which decides the wording of reasons. An item's latest role wins, but a view
    does not undo that it is in the cart or was bought.
    """

    TASTE = 0
    VIEWED = 1
    IN_CART = 2
    BOUGHT = 3
    REJECTED = 4
    ANCHOR = 5


ROLE_OF: dict[int, Role] = {
    EventType.VIEW: Role.VIEWED,
    EventType.CLICK: Role.VIEWED,
    EventType.RATE: Role.VIEWED,
    EventType.ADD_TO_CART: Role.IN_CART,
    EventType.REMOVE_FROM_CART: Role.REJECTED,
    EventType.DISLIKE: Role.REJECTED,
    EventType.PURCHASE: Role.BOUGHT,
}


class Context(msgspec.Struct, frozen=True):
    """items: int32 [m], distinct, oldest first, bounded by the settings; weights: float32 [m]; roles [m];
    session: float32 [m, 3], columns as in `ranking_features.SESSION_COLUMNS`; events: number of session events and
    anchors with a known item. vector: float32 [d] of unit length, or zero without any evidence (then not `directed`);
    `search`: text and vector of the newest search with a known word (vector None: only the word index knows it);
    `asked`: what the word index knows of it, if the shopper has touched no item since; `disliked` items are never
    recommended.
    """

    items: ItemRows
    weights: Floats
    session: Floats
    events: int
    roles: tuple[Role, ...]
    vector: Floats
    directed: bool
    search: tuple[str, Floats | None] | None
    disliked: tuple[int, ...]
    missing_item_ids: tuple[str, ...]
    asked: WordQuery | None = None

    @property
    def empty(self) -> bool:
        return len(self.items) == 0

    @property
    def near(self) -> ItemRows:
        """The items that shaped the vector, newest last: those that were not rejected. Empty if the vector comes from a
        search or from taste alone.
        """
        if self.search is not None or not self.events:
            return NOWHERE
        if Role.REJECTED not in self.roles:
            return self.items
        return self.items[[role is not Role.REJECTED for role in self.roles]]


def returning(state: ShopperState, query: RecommendQuery) -> bool:
    """Whether a known user's session is still empty, so that the profile is the only evidence."""
    return bool(query.user_id) and not (state.session.size or query.context_events or query.anchor_item_ids)


_Columns = tuple[npt.NDArray[np.uint8], Floats, ItemRows, dict[int, str]]
"""Events, oldest first, as columns: kinds, ages in seconds, item rows, and the texts of searches by place."""


class _Entry(msgspec.Struct, gc=False):
    weight: float
    role: Role
    count: int
    last: int
    """Index of the item's newest event; the oldest event is 0."""
    type_weight: float


class ContextBuilder:
    """Builds contexts for one model. Deterministic: the same state, query and time give the same context."""

    def __init__(self, engine: Engine, settings: PipelineSettings):
        self._engine = engine
        self._settings = settings
        self._type_weights = np.zeros(len(EventType) + 1, np.float32)
        for kind, weight in settings.type_weights.items():
            self._type_weights[kind] = weight
        self._type_weights_by_kind = {int(kind): weight for kind, weight in settings.type_weights.items()}
        self._wanted = np.zeros(256, np.uint8)
        self._wanted[list(self._type_weights_by_kind)] = 1
        self._list_places = (settings.position_decay ** np.arange(SESSION_EVENTS_MAX)).astype(np.float32)

    def build(self, state: ShopperState, query: RecommendQuery, now_ms: int) -> Context:
        accumulator = ContextAccumulator(self._engine)
        settings = self._settings
        taste_weight, items_max = settings.taste_weight, settings.context_items_max
        if state.profile.taste or state.profile.cart:
            if returning(state, query):
                taste_weight, items_max = settings.returning_taste_weight, settings.returning_items_max
            self._add_profile(accumulator, state, now_ms, taste_weight, items_max)
        self._add_events(accumulator, state, query, now_ms)
        self._add_request(accumulator, query)
        return accumulator.context(items_max)

    def _add_profile(
        self, accumulator: ContextAccumulator, state: ShopperState, now_ms: int, taste_weight: float, items_max: int
    ) -> None:
        settings, row_of = self._settings, self._engine.items.row
        profile = state.profile
        if profile.taste:
            decayed = [
                (t.weight * 0.5 ** ((now_ms - t.time_ms) / TASTE_HALF_LIFE_MS), t.item_id) for t in profile.taste
            ]
            largest = max(1.0, *(weight for weight, _ in decayed))
            for weight, item in sorted(decayed)[-items_max:]:
                if weight > 0:
                    accumulator.put_standing(row_of(item), taste_weight * weight / largest, Role.TASTE)
            for taste in profile.taste:
                if taste.weight < 0:
                    accumulator.put_disliked(row_of(taste.item_id))
        for item in profile.cart:
            accumulator.put_standing(row_of(item), settings.cart_weight, Role.IN_CART)

    def _add_events(
        self, accumulator: ContextAccumulator, state: ShopperState, query: RecommendQuery, now_ms: int
    ) -> None:
        stored, brought = self._stored_events(state.session, now_ms), self._brought_events(query, now_ms)
        if stored is not None and brought is not None:
            # Stored events followed by some of the request, which is rare.
            kinds, ages_s = np.concatenate((stored[0], brought[0])), np.concatenate((stored[1], brought[1]))
            item_rows = np.concatenate((stored[2], brought[2]))
            texts = stored[3] | {place + len(stored[0]): text for place, text in brought[3].items()}
        elif (only := stored or brought) is not None:
            kinds, ages_s, item_rows, texts = only
        else:
            return
        half_life_s = self._settings.half_life_s
        weights = weigh(kinds, ages_s, self._type_weights, half_life_s, self._list_places).tolist()
        term_weights = weigh(kinds, ages_s, self._type_weights, half_life_s, self._engine.position_weights).tolist()
        type_weights = self._type_weights_by_kind
        entries = zip(kinds.tolist(), item_rows.tolist(), weights, term_weights, strict=True)
        for place, (kind, item_row, weight, term_weight) in enumerate(entries):
            if kind == EventType.SEARCH:
                accumulator.put_search(texts.get(place, ""), term_weight)
            else:
                accumulator.put_event(item_row, kind, weight, term_weight, type_weights[kind])

    def _stored_events(self, session: SessionState | PackedSession, now_ms: int) -> _Columns | None:
        """The stored events whose kinds count; None if there are none. Packed sessions are read in place."""
        if isinstance(session, PackedSession):
            columns = session_columns(session.packed, session.horizon_ms, now_ms, self._wanted, self._engine.lookup)
            return columns if len(columns[0]) else None
        if not session.events:
            return None
        wanted = self._settings.type_weights
        events = [event for event in session.events if event.event_type in wanted]
        return self._columns(events, [max(now_ms - event.event_time_ms, 0) / 1000 for event in events])

    def _brought_events(self, query: RecommendQuery, now_ms: int) -> _Columns | None:
        """The request's events, in the form of `_stored_events`. An event without a time happens now."""
        if not query.context_events:
            return None
        wanted = self._settings.type_weights
        events = [event for event in query.context_events if event.event_type in wanted]
        ages_s = [max(now_ms - e.event_time_ms, 0) / 1000 if e.event_time_ms else 0.0 for e in events]
        return self._columns(events, ages_s)

    def _columns(self, events: Sequence[Event | SessionEvent], ages_s: list[float]) -> _Columns | None:
        if not events:
            return None
        row_of = self._engine.items.row
        return (
            np.array([event.event_type for event in events], np.uint8),
            np.array(ages_s, np.float32),
            np.array([row_of(event.item_id) for event in events], np.int32),
            {place: event.search_query for place, event in enumerate(events) if event.search_query},
        )

    def _add_request(self, accumulator: ContextAccumulator, query: RecommendQuery) -> None:
        row_of = self._engine.items.row
        for event in query.context_events:
            if event.item_id and row_of(event.item_id) < 0:
                accumulator.missing[event.item_id] = None
        for item in query.anchor_item_ids:
            item_row = row_of(item)
            if item_row >= 0:
                accumulator.put_anchor(item_row, self._settings.anchor_weight)
            else:
                accumulator.missing[item] = None
        for item in query.candidate_item_ids:
            if row_of(item) < 0:
                accumulator.missing[item] = None


class ContextAccumulator:
    """Accumulates a context: entries by item row, oldest first, and the terms of the vector's sum."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self._entries: dict[int, _Entry] = {}
        self._terms: list[int] = []
        self._term_weights: list[float] = []
        self._beside: Floats | None = None
        self._search: tuple[str, Floats | None] | None = None
        self._asked: WordQuery | None = None
        self._disliked: set[int] = set()
        self._events = 0
        self.missing: dict[str, None] = {}

    def put_standing(self, item_row: int, weight: float, role: Role) -> None:
        """Adds an item of the profile, which has no place in the session."""
        if item_row >= 0:
            self._put(item_row, weight, role, 0, 0.0)
            self._term(item_row, weight * self._engine.oldest_position_weight)

    def put_disliked(self, item_row: int) -> None:
        """Adds an item of the profile; what the session says about the item later takes precedence."""
        if item_row >= 0:
            self._disliked.add(item_row)

    def put_event(self, item_row: int, kind: int, weight: float, term_weight: float, type_weight: float) -> None:
        if item_row < 0:
            return
        self._events += 1
        role = ROLE_OF[kind]
        if role is not Role.REJECTED:  # A shopper who removes or dislikes something they found is still searching.
            self._asked = None
        self._put(item_row, weight, role, 1, type_weight)
        self._term(item_row, term_weight)
        if kind == EventType.DISLIKE:
            self._disliked.add(item_row)
        else:
            self._disliked.discard(item_row)

    def put_search(self, text: str, term_weight: float) -> None:
        meaning = self._engine.snapshot.words.vector(text)
        self._asked = self._engine.word_search.query(text)
        if meaning is not None or self._asked is not None:
            self._search = (text, meaning)
        if meaning is not None:
            term = meaning * np.float32(term_weight)
            self._beside = term if self._beside is None else self._beside + term

    def put_anchor(self, item_row: int, weight: float) -> None:
        self._asked = None
        self._events += 1
        self._put(item_row, weight, Role.ANCHOR, 1, 1.0)
        self._term(item_row, weight)

    def _term(self, item_row: int, weight: float) -> None:
        self._terms.append(item_row)
        self._term_weights.append(weight)

    def _put(self, item_row: int, weight: float, role: Role, count: int, type_weight: float) -> None:
        """Keeps the newest place, and the largest weight unless the newest event or the one before is a rejection."""
        known = self._entries.pop(item_row, None)
        if known is not None:
            count += known.count
            if Role.REJECTED not in (role, known.role):
                weight, type_weight = max(weight, known.weight), max(type_weight, known.type_weight)
                if known.role in (Role.IN_CART, Role.BOUGHT) and role == Role.VIEWED:
                    role = known.role
        self._entries[item_row] = _Entry(weight, role, count, self._events, type_weight)

    def context(self, items_max: int) -> Context:
        kept = list(self._entries.items())[-items_max:]
        entries = [entry for _, entry in kept]
        table = [(entry.count, self._events - entry.last, entry.type_weight) for entry in entries]
        engine = self._engine
        vector = aggregate(
            np.array(self._terms, np.int32),
            np.array(self._term_weights, np.float32),
            engine.importance,
            engine.embeddings,
            self._beside,
        )
        return Context(
            items=np.array([item_row for item_row, _ in kept], np.int32),
            weights=np.array([entry.weight for entry in entries], np.float32),
            session=np.array(table, np.float32).reshape(-1, 3),
            events=self._events,
            roles=tuple([entry.role for entry in entries]),
            vector=vector,
            directed=bool(vector.any()),
            search=self._search,
            asked=self._asked,
            disliked=tuple(self._disliked),
            missing_item_ids=tuple(self.missing),
        )
