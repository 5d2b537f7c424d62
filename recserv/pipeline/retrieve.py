"""Retrieval: a context -> the engine's table, filled with the candidates of all sources, without blocked items.

    search    context vector: graph search, or the members of a small category
    fill      co-visitation   neighbours of the newest items
              session-kNN     items of the most similar past sessions
              popular         of the category asked for, else of the session's heaviest categories, overall, and lately

A source that fails leaves its column empty and says so; the others answer. With `candidate_item_ids` nothing is
searched: each source only scores what was given. In a small category all members are candidates, because of a graph
search's k results too few would pass the filter.

`fill` leaves its result in a table that the next request uses again: rank before anything else is awaited.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from recserv._rank import NAMED_BY
from recserv.pipeline.context import Context
from recserv.pipeline.engine import Engine, Floats, Positions
from recserv.pipeline.observer import PipelineObserver
from recserv.pipeline.search_thread import Neighbours
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.trail import Trail
from recserv.resilience.deadline import Deadline
from recserv.types import DegradedReason, RecommendQuery

logger = logging.getLogger(__name__)

BY_VECTOR = NAMED_BY["context_vector"]
BY_COVISITATION = NAMED_BY["covisitation"]
BY_SESSION_KNN = NAMED_BY["session_knn"]
BY_POPULAR = NAMED_BY["popular"]
BY_CATEGORY = NAMED_BY["category"]
BY_GIVEN = NAMED_BY["given"]

BLOCKED_EXTRA_MAX = 300
SESSION_CATEGORIES = 2
CATEGORY_CANDIDATES = 25
NO_CATEGORY = -1
EMPTY: Neighbours = (np.empty(0, np.int32), np.empty(0, np.float32))

ListSource = Callable[[Positions, Floats, npt.NDArray[np.uint8], int], Neighbours]


class Retrieval:
    """The sources of one engine. Keeps no state between requests but the engine's table."""

    def __init__(self, engine: Engine, settings: PipelineSettings, observer: PipelineObserver):
        self._engine = engine
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
        if exact or query.candidate_item_ids or not context.vector.any():
            return EMPTY
        if self._engine.search is None:
            trail.degrade(DegradedReason.INDEX_UNAVAILABLE)
            return EMPTY
        # The index knows nothing of what is blocked, and it may be all of what it finds first.
        width = self._settings.search_candidates + self._extra(query) + min(len(blocked), BLOCKED_EXTRA_MAX)
        try:
            search = self._engine.search.start(context.vector, width)
        except Exception:  # whatever it is, the other sources still answer
            trail.degrade(DegradedReason.INDEX_UNAVAILABLE)
            return EMPTY
        self._observer.index_search()
        if not isinstance(search, asyncio.Future):
            return search
        # `wait` neither cancels the search nor raises: it cannot be stopped, only left alone.
        await asyncio.wait((search,), timeout=max(0.0, deadline.remaining_s()) * self._settings.search_share)
        if not search.done():
            trail.degrade(DegradedReason.INDEX_TIMEOUT)
            return EMPTY
        if search.exception() is not None:
            trail.degrade(DegradedReason.INDEX_UNAVAILABLE)
            return EMPTY
        return search.result()

    def fill(
        self, context: Context, query: RecommendQuery, blocked: Positions, found: Neighbours, trail: Trail
    ) -> None:
        """The candidates of all sources into the engine's table."""
        engine, category = self._engine, self.category(query)
        if category == NO_CATEGORY:
            engine.table.begin(engine.nothing)
            return
        with engine.allowing(category, blocked) as allowed:
            engine.table.begin(allowed)
            if query.candidate_item_ids:
                self._score_given(context, query)
                return
            engine.table.add(*found, BY_VECTOR)
            if not context.empty:
                recent, extra = self._settings.covisitation_items_max, self._extra(query)
                newest, weights = context.items[-recent:], context.weights[-recent:]
                want = self._settings.covisitation_candidates + extra
                found = _answer(engine.covisitation.top, trail, newest, weights, allowed, want)
                engine.table.add(*found, BY_COVISITATION)
                want = self._settings.session_knn_candidates + extra
                found = _answer(engine.session_knn.top, trail, context.items, context.weights, allowed, want)
                engine.table.add(*found, BY_SESSION_KNN)
            self._put_popular(context, query, category)

    def _put_popular(self, context: Context, query: RecommendQuery, category: int | None) -> None:
        engine = self._engine
        if category is None:
            engine.table.put_categories(
                context.items,
                context.weights,
                engine.snapshot.category_popular_offsets,
                engine.snapshot.category_popular_items,
                SESSION_CATEGORIES,
                CATEGORY_CANDIDATES,
            )
            engine.table.put(engine.popular_head, BY_POPULAR, max(self._settings.popular_candidates, query.page_size))
            return
        engine.table.put(engine.category_popular(category), BY_CATEGORY)
        if engine.category_size(category) <= self._settings.exact_category_items_max:
            engine.table.put(engine.category_items(category), BY_VECTOR if context.vector.any() else BY_CATEGORY)

    def _score_given(self, context: Context, query: RecommendQuery) -> None:
        engine = self._engine
        known = dict.fromkeys(engine.items.position(item) for item in query.candidate_item_ids)
        wanted = np.array([at for at in known if at >= 0], np.int32)
        engine.table.put(wanted, BY_GIVEN)
        if context.empty:
            return
        recent = self._settings.covisitation_items_max
        scores = engine.covisitation.score(context.items[-recent:], context.weights[-recent:], wanted)
        engine.table.add(*_descending(wanted, scores), BY_COVISITATION)
        scores = engine.session_knn.score(context.items, context.weights, wanted)
        engine.table.add(*_descending(wanted, scores), BY_SESSION_KNN)

    def _extra(self, query: RecommendQuery) -> int:
        """More of each source for a page that is longer than most."""
        return max(0, 2 * query.page_size - self._settings.session_knn_candidates)


def _descending(items: Positions, scores: Floats) -> Neighbours:
    order = np.lexsort((items, -scores))
    return items[order], scores[order]


def _answer(
    source: ListSource, trail: Trail, items: Positions, weights: Floats, allowed: npt.NDArray[np.uint8], k: int
) -> Neighbours:
    """What a source finds; nothing, and a word in the trail, if it fails."""
    try:
        return source(items, weights, allowed, k)
    except Exception:
        logger.exception("a candidate source failed")
        trail.degrade(DegradedReason.SOURCE_UNAVAILABLE)
        return EMPTY
