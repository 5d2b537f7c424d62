"""Retrieval: a context -> the engine's table, filled with the candidates of all sources except blocked items.

    search    the neighbours of the context vector: from the lists of the newest items' neighbours, or by graph search
              if the context is not made of items alone
    fill      words     items that contain words of the newest search, if the shopper has touched no item since
              sources   each in turn (`sources`): its candidates, or its scores of the `candidate_item_ids`, if the
                        request names any

If a source fails its columns stay empty, the answer is labelled, and the others go on.

`fill` leaves its result in a table that the next request reuses: rank before you await anything.
"""

from __future__ import annotations

import logging

import numpy as np

from recserv.index.base import NOWHERE
from recserv.pipeline.context import Context
from recserv.pipeline.degradation import BadAnswer, Guard
from recserv.pipeline.engine import Engine, Floats, ItemRows
from recserv.pipeline.observer import PipelineObserver
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.side_thread import within
from recserv.pipeline.sources.base import REQUESTED, Inquiry
from recserv.pipeline.sources.context_vector import ContextVector
from recserv.pipeline.trace import Trace
from recserv.pipeline.vector_search import Neighbours
from recserv.pipeline.word_search import WordQuery
from recserv.resilience.deadline import Deadline
from recserv.resilience.quiet_log import QuietLog
from recserv.types import DegradedReason, RecommendQuery

logger = QuietLog(logging.getLogger(__name__))

BLOCKED_EXTRA_MAX = 300
PAGE_CANDIDATES = 40
"""Up to a page of twenty, the limits of the sources' settings are enough."""
NO_CATEGORY = -1
EMPTY: Neighbours = (np.empty(0, np.int32), np.empty(0, np.float32))


class Retrieval:
    """Asks the sources of one engine. Keeps no state between requests except the engine's table."""

    def __init__(self, engine: Engine, settings: PipelineSettings, observer: PipelineObserver, index: Guard):
        self._engine = engine
        self._index = index
        self._settings = settings
        self._observer = observer

    def category(self, query: RecommendQuery) -> int | None:
        """Index of the query's category. None: any category; NO_CATEGORY: one that the model does not know."""
        return self._engine.snapshot.category_number(query.category) if query.category else None

    async def search(
        self, context: Context, query: RecommendQuery, blocked: ItemRows, deadline: Deadline, trace: Trace
    ) -> Neighbours:
        """The neighbours of the context vector in the index, found within its share of the deadline."""
        category = self.category(query)
        wanted = self._settings.search_candidates > 0 and not query.candidate_item_ids
        if not wanted or not context.directed or self._small(category):
            return EMPTY
        if self._engine.search is None:
            trace.degrade(DegradedReason.INDEX_UNAVAILABLE)
            return EMPTY
        # The index does not know what is blocked, which may be all of its first results.
        width = self._settings.search_candidates + self._extra(query) + min(self._findable(blocked), BLOCKED_EXTRA_MAX)
        self._observer.index_search()
        near = context.near if category is None and self._settings.search_near else NOWHERE
        if self._engine.search.on_the_spot:
            return self._index.call(trace, EMPTY, self._found_now, context.vector, width, near)
        return await self._index.run(trace, EMPTY, self._found_later, context.vector, width, near, deadline)

    def _small(self, category: int | None) -> bool:
        """Whether the category is so small that all members become candidates: a search would find too few of them."""
        return category is not None and self._engine.category_size(category) <= self._settings.exact_category_items_max

    def _findable(self, blocked: ItemRows) -> int:
        """How many of these items the index can find, which returns one variant of each product."""
        variants = self._engine.variants
        return len(blocked) if variants is None else len(variants.first(blocked, len(blocked)))

    def _found_now(self, vector: Floats, width: int, near: ItemRows) -> Neighbours:
        """Raises what the search raises, and BadAnswer for impossible neighbours."""
        assert self._engine.search is not None
        return self._checked(self._engine.search.now(vector, width, near), width)

    async def _found_later(self, vector: Floats, width: int, near: ItemRows, deadline: Deadline) -> Neighbours:
        """Like `_found_now`; raises TimeoutError as well."""
        assert self._engine.search is not None
        found = self._engine.search.later(vector, width, near)
        return self._checked(await within(found, deadline.share_s(self._settings.search_share)), width)

    def _checked(self, found: Neighbours, width: int) -> Neighbours:
        items, similarities = found
        if fault := self._engine.neighbour_check.fault(items, similarities, width):
            raise BadAnswer(f"the vector search found {fault}")
        return found

    def fill(
        self, context: Context, query: RecommendQuery, blocked: ItemRows, found: Neighbours, trace: Trace
    ) -> Neighbours:
        """Fills the engine's table with the candidates of all sources. Returns those that contain words of the newest
        search, best first, with the rarity of these words.
        """
        engine, category = self._engine, self.category(query)
        table = engine.table
        if category == NO_CATEGORY:
            table.begin(engine.nothing)
            return EMPTY
        with engine.allowing(category, blocked) as allowed:
            table.begin(allowed)
            inquiry = Inquiry(
                self._settings,
                context.items,
                context.weights,
                context.directed,
                found,
                allowed,
                category,
                self._small(category),
                self._requested(query),
                query.page_size,
                self._extra(query),
            )
            if inquiry.requested is not None:
                table.put(inquiry.requested, REQUESTED)
            matching = EMPTY if context.asked is None else self._matching(context.asked, inquiry, trace)
            for source in engine.sources:
                try:
                    source.fill(table, inquiry)
                except Exception as error:
                    _failed(trace, error)
        return matching

    def _matching(self, asked: WordQuery, inquiry: Inquiry, trace: Trace) -> Neighbours:
        """Items that contain words of the newest search. Credited to the context vector, which includes the search."""
        words = self._engine.word_search
        try:
            if inquiry.requested is not None:
                return words.among(asked, inquiry.requested)
            matching = words.top(asked, inquiry.allowed)
        except Exception as error:
            _failed(trace, error)
            return EMPTY
        self._engine.table.put(matching[0], ContextVector.bit)
        return matching

    def _requested(self, query: RecommendQuery) -> ItemRows | None:
        """Rows of the candidates that the request names; None if it names none."""
        if not query.candidate_item_ids:
            return None
        known = dict.fromkeys(self._engine.items.row(item) for item in query.candidate_item_ids)
        return np.array([at for at in known if at >= 0], np.int32)

    def _extra(self, query: RecommendQuery) -> int:
        """How many more candidates each source should give for a long page."""
        return max(0, 2 * query.page_size - PAGE_CANDIDATES)


def _failed(trace: Trace, error: Exception) -> None:
    logger.log(logging.ERROR, "source", "a candidate source failed", error=error)
    trace.degrade(DegradedReason.SOURCE_UNAVAILABLE)
