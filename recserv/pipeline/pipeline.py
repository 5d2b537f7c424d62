"""The request path: RecommendQuery -> Recommendation, one stage after the other.

    state     stored session and profile, one batched read           stores
    context   state + request -> weighted items, one vector           context.py
    filter    what must not be shown                                  rerank.py
    search    the context vector's neighbours                         retrieve.py
    retrieve  candidates of all sources, merged                       retrieve.py
    rank      features -> scores -> the best                          rank.py
    rerank    the page, with diversity if asked for                   rerank.py
    explain   source and reasons from the shares that ranked          explain.py

Each stage degrades on its own and says so in the trail: no stored state -> the request's own context; no index -> the
other sources; too little time -> popular items (fallback.py). Only a wrong request raises.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import Counter

from recserv.errors import DeadlineTooNear, StoreUnavailable
from recserv.pipeline.context import Context, ContextBuilder
from recserv.pipeline.context_cache import ContextCache, cacheable
from recserv.pipeline.engine import Engine
from recserv.pipeline.enrich import ExplanationBoard
from recserv.pipeline.explain import explain
from recserv.pipeline.fallback import filled, popular
from recserv.pipeline.observer import PipelineObserver, SilentObserver
from recserv.pipeline.rank import rank
from recserv.pipeline.rerank import blocked_items, rerank
from recserv.pipeline.retrieve import Retrieval
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.shopper import shopper_context
from recserv.pipeline.tokens import decode_token
from recserv.pipeline.trail import Trail
from recserv.resilience.deadline import Deadline
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
)

NOTHING_STORED = ShopperState()
DIVERSIFIED = 100
"""Candidates that diversity chooses from, at least."""


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class RecommendationPipeline:
    """`store` None: stateless, every request brings its own context."""

    def __init__(
        self,
        engine: Engine,
        store: StateStore | None,
        settings: PipelineSettings,
        *,
        board: ExplanationBoard | None = None,
        clock: Clock = wall_clock_ms,
        observer: PipelineObserver | None = None,
    ):
        self.board = board or ExplanationBoard()
        self._engine = engine
        self._store = store
        self._settings = settings
        self._clock = clock
        self._observer = observer or SilentObserver()
        self._contexts = ContextCache() if settings.context_cache else None
        self._builder = ContextBuilder(engine, settings)
        self._retrieval = Retrieval(engine, settings, self._observer)
        self._ids = (f"{secrets.token_hex(6)}-{number:x}" for number in itertools.count(1))

    async def recommend(self, query: RecommendQuery, deadline: Deadline) -> Recommendation:
        """Ranked products within the deadline. Raises InvalidInput for a consistency token that is none of ours."""
        engine, settings, trail = self._engine, self._settings, Trail(self._observer)
        key = ShopperKey(query.session_id, query.user_id)
        sequence = (
            decode_token(query.consistency_token).sequence_for(query.tenant, key) if query.consistency_token else 0
        )
        state = await trail.wait("state", self._state(query.tenant, key, sequence, deadline, trail))
        context = trail.run("context", self._build_context, state, query)
        blocked = trail.run("filter", blocked_items, engine, state, context, query, settings)
        too_late = deadline.remaining_s() * 1000 < settings.full_answer_min_ms
        if too_late or engine.popular_only:
            trail.degrade(DegradedReason.DEADLINE if too_late else DegradedReason.SOURCE_UNAVAILABLE)
            page = trail.run("fallback", popular, engine, query, blocked, query.page_size)
        else:
            found = await trail.wait("search", self._retrieval.search(context, query, blocked, deadline, trail))
            trail.run("retrieve", self._retrieval.fill, context, query, blocked, found, trail)
            keep = max(DIVERSIFIED, 2 * query.page_size) if query.diversity else query.page_size
            ranking = trail.run("rank", rank, engine, context, keep, trail)
            page = trail.run("rerank", rerank, engine, ranking, query)
            page = filled(engine, page, query, blocked)
        results = trail.run("explain", explain, engine, page, context, query)
        return self._answer(query, results, context.missing_item_ids, trail)

    async def context(self, tenant: str, key: ShopperKey, deadline: Deadline) -> ShopperContext:
        """What is stored of a shopper. Raises StoreUnavailable or DeadlineTooNear: there is nothing to degrade to."""
        if self._store is None:
            raise StoreUnavailable("this server keeps no state")
        try:
            async with asyncio.timeout(max(0.0, deadline.remaining_s())):
                [state] = await self._store.read(tenant, (key,))
        except TimeoutError as error:
            raise DeadlineTooNear("the stored state was not read in time") from error
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

    async def _state(
        self, tenant: str, key: ShopperKey, sequence: int, deadline: Deadline, trail: Trail
    ) -> ShopperState:
        """The stored state within its share of the budget, at least as new as `sequence` if that can be had."""
        if self._store is None or not (key.session_id or key.user_id):
            return NOTHING_STORED
        state = NOTHING_STORED
        try:
            async with asyncio.timeout(max(0.0, deadline.remaining_s()) * self._settings.state_share):
                [state] = await self._store.read(tenant, (key,))
                while state.sequence < sequence:
                    await asyncio.sleep(self._settings.stale_poll_ms / 1000)
                    [state] = await self._store.read(tenant, (key,))
        except TimeoutError:
            stale = state is not NOTHING_STORED
            trail.degrade(DegradedReason.STALE_STATE if stale else DegradedReason.STATE_UNAVAILABLE)
        except StoreUnavailable:
            trail.degrade(DegradedReason.STATE_UNAVAILABLE)
        return state

    def _answer(
        self, query: RecommendQuery, results: tuple[Result, ...], missing: tuple[str, ...], trail: Trail
    ) -> Recommendation:
        for source, count in Counter(result.source for result in results).items():
            self._observer.source(source, count)
        later = query.explain == ExplainMode.LLM_ASYNC
        return Recommendation(
            results=results,
            recommendation_id=next(self._ids),
            model_version=self._engine.version,
            degraded_reasons=trail.reasons,
            explanation_token=self.board.post(query.tenant, results) if later else "",
            missing_item_ids=missing,
        )
