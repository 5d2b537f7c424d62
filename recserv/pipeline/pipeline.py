"""The request path: RecommendQuery -> Recommendation, one stage after the other.

    state     stored session and profile, one batched read           stores
    context   state + request -> weighted items, one vector           context.py
    filter    what must not be shown                                  filters.py
    search    the context vector's neighbours                         retrieve.py
    retrieve  candidates of all sources, merged                       retrieve.py
    rank      features -> scores -> the best                          rank.py
    rerank    the page: one of a product's variants, diversity        rerank.py
    explain   source and reasons from the contributions that ranked   explain.py
    enrich    texts of a language model: what is known, a token for the rest (if asked for)   explanation_board.py

Each stage degrades on its own and records that in the trace: no stored state -> the request's own context; no index ->
the other sources; too little time -> popular items (fallback.py; usually a page shared by all, popular_pages.py). Only
invalid requests raise. degradation.py lists all substitutes.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from collections import Counter

import msgspec
import numpy as np

from recserv.pipeline.context import Context, ContextBuilder
from recserv.pipeline.context_cache import ContextCache, cacheable
from recserv.pipeline.degradation import Guards, popular_only
from recserv.pipeline.engine import Engine, ItemRows
from recserv.pipeline.explain import explain
from recserv.pipeline.explanation_board import ExplanationBoard
from recserv.pipeline.fallback import backfill, popular
from recserv.pipeline.filters import blocked_items
from recserv.pipeline.guarded_store import GuardedStore, StoreGuard
from recserv.pipeline.observer import PipelineObserver, SilentObserver
from recserv.pipeline.popular_pages import PopularPage, PopularPages, popular_page, shareable
from recserv.pipeline.rank import Ranking, RankStage
from recserv.pipeline.rerank import places_to_rank, rerank
from recserv.pipeline.retrieve import Retrieval
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.shopper import shopper_context
from recserv.pipeline.state import NOTHING_STORED, StateStage
from recserv.pipeline.trace import Trace
from recserv.pipeline.watch_answers import is_news
from recserv.resilience.deadline import Deadline
from recserv.resilience.quiet_log import QuietLog
from recserv.stores.base import StateStore
from recserv.types import (
    Clock,
    DegradedReason,
    ExplainMode,
    Recommendation,
    RecommendQuery,
    Result,
    ShopperContext,
    ShopperKey,
    ShopperState,
    Source,
    wall_clock_ms,
)

logger = QuietLog(logging.getLogger(__name__))

NOTHING_BLOCKED = np.empty(0, np.int32)


class RecommendationPipeline:
    """`store` None: stateless, every request brings its own context. `guards`, `store_guard`: the circuit breakers; the
    latter is shared with the store's other users.
    """

    def __init__(
        self,
        engine: Engine,
        store: StateStore | None,
        settings: PipelineSettings,
        *,
        board: ExplanationBoard | None = None,
        clock: Clock = wall_clock_ms,
        observer: PipelineObserver | None = None,
        guards: Guards | None = None,
        store_guard: StoreGuard | None = None,
    ):
        guards = guards or Guards()
        self.board = board or ExplanationBoard(clock)
        self._engine = engine
        self._state = StateStage(GuardedStore(store, store_guard) if store is not None else None, settings)
        self._settings = settings
        self._clock = clock
        self._observer = observer or SilentObserver()
        self._contexts = ContextCache(settings.context_cache_bytes) if settings.context_cache else None
        self._builder = ContextBuilder(engine, settings)
        self._nothing_known = self._builder.build(NOTHING_STORED, RecommendQuery(), 0)
        self._retrieval = Retrieval(engine, settings, self._observer, guards.index)
        self._ranking = RankStage(engine, settings, guards.ranker)
        self._popular_pages = PopularPages()
        self._ids = (f"{secrets.token_hex(6)}-{number:x}" for number in itertools.count(1))

    async def recommend(self, query: RecommendQuery, deadline: Deadline, *, overloaded: bool = False) -> Recommendation:
        """Ranked products within the deadline; popular ones at once if the server is `overloaded`. Raises nothing but
        InvalidInput, for a malformed consistency token.
        """
        engine, settings, trace = self._engine, self._settings, Trace(self._observer)
        if overloaded:
            return self._popular(query, NOTHING_STORED, self._nothing_known, trace, DegradedReason.OVERLOAD)
        state = await trace.wait("state", self._state.of_query(query, deadline, trace))
        context = self._nothing_known
        try:
            context = trace.run("context", self._build_context, state, query)
            blocked = trace.run("filter", blocked_items, engine, state, context, query, settings)
            if lost := popular_only(deadline, settings.full_answer_min_ms, not engine.popular_only):
                return self._popular(query, state, context, trace, lost)
            found = await trace.wait("search", self._retrieval.search(context, query, blocked, deadline, trace))
            matching = trace.run("retrieve", self._retrieval.fill, context, query, blocked, found, trace)
            keep = places_to_rank(engine, query)
            ranking = await trace.wait("rank", self._ranking.rank(context, keep, deadline, trace, matching))
            page = trace.run("rerank", rerank, engine, ranking, query)
            page = backfill(engine, page, query, blocked)
        except Exception as error:
            logger.log(logging.ERROR, "path", "a stage failed; popular items answer", error=error)
            return self._popular(query, state, context, trace, DegradedReason.STAGE_FAILED)
        results = trace.run("explain", self._explain, page, context, query, trace)
        return self._answer(query, page, results, context, trace)

    def _popular(
        self, query: RecommendQuery, state: ShopperState, context: Context, trace: Trace, lost: DegradedReason
    ) -> Recommendation:
        """The last resort: popular items, without those that the query or the shopper's known state excludes."""
        trace.degrade(lost)
        blocked = self._blocked(state, context, query)
        if context is self._nothing_known and shareable(query):
            try:
                made = trace.run("fallback", self._popular_pages.get, query, self._popular_to_all)
                page, results, sources, item_rows = made
                if item_rows.isdisjoint(blocked.tolist()):
                    return self._answer(query, page, results, context, trace, sources)
            except Exception as error:
                logger.log(logging.ERROR, "shared", "no page could be shared", error=error)
        page = trace.run("fallback", popular, self._engine, query, blocked, query.page_size)
        results = self._explain(page, context, query, trace)
        return self._answer(query, page, results, context, trace)

    def _blocked(self, state: ShopperState, context: Context, query: RecommendQuery) -> ItemRows:
        """What the last resort leaves out. If the filter fails: what the query alone excludes, or nothing."""
        for known in ((state, context), (NOTHING_STORED, self._nothing_known)):
            try:
                return blocked_items(self._engine, *known, query, self._settings)
            except Exception as error:
                logger.log(logging.ERROR, "filter", "the filter failed; fewer items are left out", error=error)
        return NOTHING_BLOCKED

    def _popular_to_all(self, query: RecommendQuery) -> PopularPage:
        page = popular(self._engine, query, NOTHING_BLOCKED, query.page_size)
        return popular_page(page, explain(self._engine, page, self._nothing_known, query))

    def _explain(self, page: Ranking, context: Context, query: RecommendQuery, trace: Trace) -> tuple[Result, ...]:
        try:
            return explain(self._engine, page, context, query)
        except Exception as error:
            logger.log(logging.ERROR, "explain", "no reasons could be given", error=error)
            trace.degrade(DegradedReason.EXPLANATION_UNAVAILABLE)
            return explain(self._engine, page, context, msgspec.structs.replace(query, explain=ExplainMode.NONE))

    async def context(self, tenant: str, key: ShopperKey, deadline: Deadline) -> ShopperContext:
        """The stored state of a shopper. Raises StoreUnavailable or DeadlineTooNear: there is nothing to degrade to."""
        state = await self._state.of_shopper(tenant, key, deadline)
        context = self._builder.build(state, RecommendQuery(), self._clock())
        return shopper_context(self._engine, state, context)

    def _build_context(self, state: ShopperState, query: RecommendQuery) -> Context:
        now_ms = self._clock()
        if self._contexts is None or not cacheable(query):
            return self._builder.build(state, query, now_ms)
        context = self._contexts.get(query, state, now_ms)
        if context is None:
            context = self._builder.build(state, query, now_ms)
            self._contexts.put(query, state, now_ms, context)
        return context

    def _enrich(
        self, query: RecommendQuery, page: Ranking, results: tuple[Result, ...], context: Context, trace: Trace
    ) -> tuple[tuple[Result, ...], str]:
        try:
            return self.board.post(query, context, self._engine.items, page.items.tolist(), results)
        except Exception as error:
            logger.log(logging.ERROR, "enrich", "no explanations could be asked for", error=error)
            trace.degrade(DegradedReason.EXPLANATION_UNAVAILABLE)
            return results, ""

    def _answer(
        self,
        query: RecommendQuery,
        page: Ranking,
        results: tuple[Result, ...],
        context: Context,
        trace: Trace,
        sources: Counter[Source] | None = None,
    ) -> Recommendation:
        """`sources`: those of shared results."""
        shared = sources is not None and query.explain != ExplainMode.LLM_ASYNC
        if sources is None:
            sources = Counter(result.source for result in results)
        for source, count in sources.items():
            self._observer.source(source, count)
        answer = Recommendation(
            results=results,
            recommendation_id=next(self._ids),
            model_version=self._engine.version,
            degraded_reasons=trace.reasons,
            missing_item_ids=context.missing_item_ids,
            missing_categories=(query.category,) if query.category and self._engine.lacks(query.category) else (),
            shared=shared,
        )
        if query.explain != ExplainMode.LLM_ASYNC or not is_news(answer, query.known_answer):
            return answer
        results, token = trace.run("enrich", self._enrich, query, page, results, context, trace)
        return msgspec.structs.replace(answer, results=results, explanation_token=token, degraded_reasons=trace.reasons)
