"""Retrieval: a context -> one table of candidates from all sources, without duplicates and without blocked items.

    context vector   HNSW search, started first; awaited last if it runs on the engine's thread
    co-visitation    neighbours of the newest items
    session-kNN      items of the most similar past sessions
    popular          of the category asked for, else of the session's heaviest categories, overall, and lately

A source that fails leaves its column empty and says so; the others answer. With `candidate_item_ids` nothing is
searched: each source only scores what was given. In a small category the members are scored exactly, because of a graph
search's k results too few would pass the filter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from recserv._rank import FEATURE_NAMES
from recserv.pipeline.context import Context
from recserv.pipeline.engine import Engine, Floats, Positions
from recserv.pipeline.observer import PipelineObserver
from recserv.pipeline.search_thread import Neighbours
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.trail import Trail
from recserv.resilience.deadline import Deadline
from recserv.types import DegradedReason, RecommendQuery

COSINE = FEATURE_NAMES.index("context_cosine")
COVISITATION = FEATURE_NAMES.index("covisitation")
SESSION_KNN = FEATURE_NAMES.index("session_knn")
POPULARITY = FEATURE_NAMES.index("popularity")

logger = logging.getLogger(__name__)

SOURCE_ITEMS_MAX = 400
SESSION_CATEGORIES = 2
CATEGORY_CANDIDATES = 25

ColumnScores = tuple[int, Positions, Floats]
Found = Neighbours | asyncio.Future[Neighbours]
EMPTY: Neighbours = (np.empty(0, np.int32), np.empty(0, np.float32))


class Candidates(msgspec.Struct, frozen=True):
    """items: int32 [m], distinct; features: float32 [m, 6], columns as in `_rank.FEATURE_NAMES`; `in_category`:
    positions that came as popular items of a category.
    """

    items: Positions
    features: Floats
    in_category: frozenset[int] = frozenset()


class Retrieval:
    """The sources of one engine. Keeps no state between requests."""

    def __init__(self, engine: Engine, settings: PipelineSettings, observer: PipelineObserver):
        self._engine = engine
        self._settings = settings
        self._observer = observer

    async def candidates(
        self, context: Context, query: RecommendQuery, blocked: Positions, deadline: Deadline, trail: Trail
    ) -> Candidates:
        if query.candidate_item_ids:
            return self._given(context, query, blocked, trail)
        category = self._engine.snapshot.category_position(query.category) if query.category else None
        if category is not None and category < 0:
            return self._merge([], context)
        want = self._width(query, blocked)
        members = self._small_category(category)
        search = self._start_search(context, self._search_width(want), trail) if members is None else EMPTY
        lists, in_category = self._lists(context, category, blocked, want, trail)
        found = await self._found(search, deadline, trail)
        if members is not None:
            found = (members, np.zeros(len(members), np.float32))
        lists.append((COSINE, *self._allowed(found, category, blocked)))
        return self._merge(lists, context, in_category)

    def _width(self, query: RecommendQuery, blocked: Positions) -> int:
        """Enough of each source that a full page is left when what is blocked has been taken out."""
        width = max(self._settings.candidates_per_source, 2 * query.page_size)
        return min(width + len(blocked), SOURCE_ITEMS_MAX)

    def _search_width(self, want: int) -> int:
        return want - self._settings.candidates_per_source + self._settings.search_candidates

    def _small_category(self, category: int | None) -> Positions | None:
        if category is None:
            return None
        members = self._engine.category_items(category)
        return members if len(members) <= self._settings.exact_category_items_max else None

    def _start_search(self, context: Context, k: int, trail: Trail) -> Found:
        if not context.vector.any():
            return EMPTY
        if self._engine.search is None:
            trail.degrade(DegradedReason.INDEX_UNAVAILABLE)
            return EMPTY
        try:
            search = self._engine.search.start(context.vector, k)
        except Exception:  # whatever it is, the other sources still answer
            trail.degrade(DegradedReason.INDEX_UNAVAILABLE)
            return EMPTY
        self._observer.index_search()
        return search

    async def _found(self, search: Found, deadline: Deadline, trail: Trail) -> Neighbours:
        if not isinstance(search, asyncio.Future):
            return search
        if not search.done():
            # `wait` neither cancels the search nor raises: it cannot be stopped, only left alone.
            await asyncio.wait((search,), timeout=max(0.0, deadline.remaining_s()) * self._settings.search_share)
        if not search.done():
            trail.degrade(DegradedReason.INDEX_TIMEOUT)
            return EMPTY
        if search.exception() is not None:
            trail.degrade(DegradedReason.INDEX_UNAVAILABLE)
            return EMPTY
        return search.result()

    def _lists(
        self, context: Context, category: int | None, blocked: Positions, want: int, trail: Trail
    ) -> tuple[list[ColumnScores], frozenset[int]]:
        engine, lists = self._engine, list[ColumnScores]()
        recent = self._settings.covisitation_items_max
        newest, weights = context.items[-recent:], context.weights[-recent:]
        with engine.allowing(category, blocked) as allowed:
            if not context.empty:
                found = _answer(engine.covisitation.top, trail, newest, weights, allowed, want)
                lists.append((COVISITATION, *found))
                found = _answer(engine.session_knn.top, trail, context.items, context.weights, allowed, want)
                lists.append((SESSION_KNN, *found))
            listed = self._popular_in_categories(context, category)
            in_category = listed[allowed[listed] != 0] if len(listed) else listed
            items = in_category
            if category is None:
                head = engine.popular_head[allowed[engine.popular_head] != 0] if len(blocked) else engine.popular_head
                items = np.concatenate((in_category, head)) if len(in_category) else head
        lists.append((POPULARITY, items, engine.popularity[items]))
        return lists, frozenset(in_category.tolist())

    def _popular_in_categories(self, context: Context, category: int | None) -> Positions:
        if category is not None:
            return self._engine.category_popular(category)
        totals: dict[int, float] = {}
        mains = self._engine.main_category[context.items].tolist()
        for member, weight in zip(mains, context.weights.tolist(), strict=True):
            if member >= 0:
                totals[member] = totals.get(member, 0.0) + weight
        heaviest = sorted(totals, key=lambda member: (-totals[member], member))[:SESSION_CATEGORIES]
        if not heaviest:
            return EMPTY[0]
        return np.concatenate([self._engine.category_popular(member)[:CATEGORY_CANDIDATES] for member in heaviest])

    def _allowed(self, found: Neighbours, category: int | None, blocked: Positions) -> Neighbours:
        with self._engine.allowing(category, blocked) as allowed:
            kept = allowed[found[0]] != 0
        return found[0][kept], found[1][kept]

    def _given(self, context: Context, query: RecommendQuery, blocked: Positions, trail: Trail) -> Candidates:
        engine = self._engine
        known = dict.fromkeys(engine.items.position(item) for item in query.candidate_item_ids)
        wanted = np.array([at for at in known if at >= 0], np.int32)
        category = engine.snapshot.category_position(query.category) if query.category else None
        if category is not None and category < 0:
            return self._merge([], context)
        with engine.allowing(category, blocked) as allowed:
            wanted = wanted[allowed[wanted] != 0]
        lists: list[ColumnScores] = [(POPULARITY, wanted, engine.popularity[wanted])]
        if not context.empty:
            recent = self._settings.covisitation_items_max
            scores = engine.covisitation.score(context.items[-recent:], context.weights[-recent:], wanted)
            lists.append((COVISITATION, wanted, scores))
            lists.append((SESSION_KNN, wanted, engine.session_knn.score(context.items, context.weights, wanted)))
        return self._merge(lists, context)

    def _merge(
        self, lists: list[ColumnScores], context: Context, in_category: frozenset[int] = frozenset()
    ) -> Candidates:
        table = self._engine.table
        table.begin()
        for column, items, scores in lists:
            table.add(items, scores, column)
        items, features = table.features(context.vector, context.items)
        return Candidates(items, features, in_category)


def _answer(
    source: Callable[[Positions, Floats, npt.NDArray[np.uint8], int], Neighbours],
    trail: Trail,
    items: Positions,
    weights: Floats,
    allowed: npt.NDArray[np.uint8],
    k: int,
) -> Neighbours:
    """What a source finds; nothing, and a word in the trail, if it fails."""
    try:
        return source(items, weights, allowed, k)
    except Exception:
        logger.exception("a candidate source failed")
        trail.degrade(DegradedReason.SOURCE_UNAVAILABLE)
        return EMPTY
