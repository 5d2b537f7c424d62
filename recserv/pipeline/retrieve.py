"""Retrieval: a context -> the engine's table, filled with the candidates of all sources, without blocked items.

    search    context vector: among the neighbours of the newest items, by graph search where the context is more than
              items, or the members of a small category
    fill      words           items that hold words of the newest search, if no item was turned to since
              co-visitation   neighbours of the newest items
              session-kNN     items of the most similar past sessions
              popular         of the category asked for, else of the session's heaviest categories, overall, and lately

A source that fails leaves its column empty and says so; the others answer. With `candidate_item_ids` nothing is
searched: each source only scores what was given. In a small category all members are candidates, because of a graph
search's k results too few would pass the filter.

`fill` leaves its result in a table that the next request uses again: rank before anything else is awaited.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVarTuple, Unpack

import numpy as np
import numpy.typing as npt

from recserv._candidates import Covisitation, SessionKnn
from recserv._rank import NAMED_BY
from recserv.index.base import NOWHERE
from recserv.pipeline.context import Context
from recserv.pipeline.degradation import BadAnswer, Guard
from recserv.pipeline.engine import Engine, Floats, Positions
from recserv.pipeline.observer import PipelineObserver
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.side_thread import within
from recserv.pipeline.trail import Trail
from recserv.pipeline.vector_search import Neighbours
from recserv.resilience.deadline import Deadline
from recserv.resilience.quiet_log import QuietLog
from recserv.types import DegradedReason, RecommendQuery

logger = QuietLog(logging.getLogger(__name__))

BY_VECTOR = NAMED_BY["context_vector"]
BY_COVISITATION = NAMED_BY["covisitation"]
BY_SESSION_KNN = NAMED_BY["session_knn"]
BY_POPULAR = NAMED_BY["popular"]
BY_CATEGORY = NAMED_BY["category"]
BY_GIVEN = NAMED_BY["given"]

BLOCKED_EXTRA_MAX = 300
VARIANTS_ASKED = 8
"""Items asked of a list for each one wanted, where some are variants: as many stand in the lists of three items."""
PAGE_CANDIDATES = 40
"""For a page of twenty no source needs to give more than by its settings."""
SESSION_CATEGORIES = 2
CATEGORY_CANDIDATES = 12
NO_CATEGORY = -1
EMPTY: Neighbours = (np.empty(0, np.int32), np.empty(0, np.float32))

Ts = TypeVarTuple("Ts")


class Retrieval:
    """The sources of one engine. Keeps no state between requests but the engine's table."""

    def __init__(self, engine: Engine, settings: PipelineSettings, observer: PipelineObserver, index: Guard):
        self._engine = engine
        self._index = index
        self._settings = settings
        self._observer = observer

    def category(self, query: RecommendQuery) -> int | None:
        """None: any. NO_CATEGORY: one that the model does not know."""
        return self._engine.snapshot.category_position(query.category) if query.category else None

    async def search(
        self, context: Context, query: RecommendQuery, blocked: Positions, deadline: Deadline, trail: Trail
    ) -> Neighbours:
        """What the context vector finds in the index, within its share of the deadline."""
        category = self.category(query)
        exact = category is not None and self._engine.category_size(category) <= self._settings.exact_category_items_max
        wanted = self._settings.search_candidates > 0 and not query.candidate_item_ids
        if exact or not wanted or not context.directed:
            return EMPTY
        if self._engine.search is None:
            trail.degrade(DegradedReason.INDEX_UNAVAILABLE)
            return EMPTY
        # The index knows nothing of what is blocked, and it may be all of what it finds first.
        width = self._settings.search_candidates + self._extra(query) + min(self._findable(blocked), BLOCKED_EXTRA_MAX)
        self._observer.index_search()
        near = context.near if category is None and self._settings.search_near else NOWHERE
        if self._engine.search.on_the_spot:
            return self._index.call(trail, EMPTY, self._found_now, context.vector, width, near)
        return await self._index.run(trail, EMPTY, self._found_later, context.vector, width, near, deadline)

    def _findable(self, blocked: Positions) -> int:
        """How many of these the index may find: one of the variants of a product."""
        variants = self._engine.variants
        return len(blocked) if variants is None else len(variants.first(blocked, len(blocked)))

    def _found_now(self, vector: Floats, width: int, near: Positions) -> Neighbours:
        """Raises what the search raises, and BadAnswer for neighbours that cannot be."""
        assert self._engine.search is not None
        return self._checked(self._engine.search.now(vector, width, near), width)

    async def _found_later(self, vector: Floats, width: int, near: Positions, deadline: Deadline) -> Neighbours:
        """As `_found_now`; raises TimeoutError as well."""
        assert self._engine.search is not None
        found = self._engine.search.later(vector, width, near)
        return self._checked(await within(found, deadline.share_s(self._settings.search_share)), width)

    def _checked(self, found: Neighbours, width: int) -> Neighbours:
        items, similarities = found
        if fault := self._engine.neighbour_check.fault(items, similarities, width):
            raise BadAnswer(f"the vector search found {fault}")
        return found

    def fill(
        self, context: Context, query: RecommendQuery, blocked: Positions, found: Neighbours, trail: Trail
    ) -> Neighbours:
        """The candidates of all sources into the engine's table. Returns those that hold words of what was searched for
        last, best first, with the rarity of these words.
        """
        engine, category, asked = self._engine, self.category(query), context.asked
        if category == NO_CATEGORY:
            engine.table.begin(engine.nothing)
            return EMPTY
        with engine.allowing(category, blocked) as allowed:
            engine.table.begin(allowed)
            if query.candidate_item_ids:
                wanted = self._score_given(context, query)
                return EMPTY if asked is None else _answer(engine.word_search.among, trail, asked, wanted)
            matching = EMPTY
            if asked is not None:
                matching = _answer(engine.word_search.top, trail, asked, allowed)
                engine.table.put(matching[0], BY_VECTOR)
            engine.table.add(*found, BY_VECTOR)
            if not context.empty:
                self._add_lists(context, allowed, self._extra(query), trail)
            if category is not None:
                self._put_category(context, category)
            elif self._settings.popular_candidates:
                self._put_popular(context, query)
        return matching

    def _add_lists(self, context: Context, allowed: npt.NDArray[np.uint8], extra: int, trail: Trail) -> None:
        engine, settings = self._engine, self._settings
        items, weights, recent = context.items, context.weights, settings.covisitation_items_max
        if want := settings.covisitation_candidates:
            # Shoppers come back to items: those of the context stand in each other's lists, and in their own.
            want += min(len(items), recent)
            found = _answer(
                self._products, trail, engine.covisitation, items[-recent:], weights[-recent:], allowed, want + extra
            )
            engine.table.add(*found, BY_COVISITATION)
        if want := settings.session_knn_candidates:
            found = _answer(self._products, trail, engine.session_knn, items, weights, allowed, want + extra)
            engine.table.add(*found, BY_SESSION_KNN)

    def _products(
        self,
        source: Covisitation | SessionKnn,
        items: Positions,
        weights: Floats,
        allowed: npt.NDArray[np.uint8],
        k: int,
    ) -> Neighbours:
        """The k best of a source, of the variants of a product the best."""
        variants = self._engine.variants
        if variants is None:
            return source.top(items, weights, allowed, k)
        found, scores = source.top(items, weights, allowed, VARIANTS_ASKED * k)
        rows = variants.first(found, k)
        return found[rows], scores[rows]

    def _put_popular(self, context: Context, query: RecommendQuery) -> None:
        engine = self._engine
        engine.table.put_categories(
            context.items,
            context.weights,
            engine.category_popular_offsets,
            engine.category_popular_items,
            SESSION_CATEGORIES,
            CATEGORY_CANDIDATES,
        )
        engine.table.put(engine.popular_head, BY_POPULAR, max(self._settings.popular_candidates, query.page_size))

    def _put_category(self, context: Context, category: int) -> None:
        engine = self._engine
        engine.table.put(engine.category_popular(category), BY_CATEGORY)
        if engine.category_size(category) <= self._settings.exact_category_items_max:
            engine.table.put(engine.category_items(category), BY_VECTOR if context.directed else BY_CATEGORY)

    def _score_given(self, context: Context, query: RecommendQuery) -> Positions:
        """The candidates that the request named, by position."""
        engine = self._engine
        known = dict.fromkeys(engine.items.position(item) for item in query.candidate_item_ids)
        wanted = np.array([at for at in known if at >= 0], np.int32)
        engine.table.put(wanted, BY_GIVEN)
        if context.empty:
            return wanted
        recent = self._settings.covisitation_items_max
        scores = engine.covisitation.score(context.items[-recent:], context.weights[-recent:], wanted)
        engine.table.add(*_descending(wanted, scores), BY_COVISITATION)
        scores = engine.session_knn.score(context.items, context.weights, wanted)
        engine.table.add(*_descending(wanted, scores), BY_SESSION_KNN)
        return wanted

    def _extra(self, query: RecommendQuery) -> int:
        """More of each source for a page that is longer than most."""
        return max(0, 2 * query.page_size - PAGE_CANDIDATES)


def _descending(items: Positions, scores: Floats) -> Neighbours:
    order = np.lexsort((items, -scores))
    return items[order], scores[order]


def _answer(source: Callable[[Unpack[Ts]], Neighbours], trail: Trail, *args: *Ts) -> Neighbours:
    """What a source finds; nothing, and a word in the trail, if it fails."""
    try:
        return source(*args)
    except Exception as error:
        logger.log(logging.ERROR, "source", "a candidate source failed", error=error)
        trail.degrade(DegradedReason.SOURCE_UNAVAILABLE)
        return EMPTY
