"""The model that serves, and its replacement by another while calls are under way.

    swap:   engine -> pipeline of its own -> serves every call that begins from now on
            the engine before it -> serves the calls that began with it -> is closed with the last of them

A call stays with the pipeline that it began with, and whatever is derived from a model (the context cache too) belongs
to one pipeline, so no answer mixes two models.
"""

from __future__ import annotations

from collections.abc import Callable

from recserv.pipeline.engine import Engine
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.resilience.deadline import Deadline
from recserv.types import Recommendation, RecommendQuery, ShopperContext, ShopperKey


class _Reign:
    """One engine with its pipeline, and the calls that use them."""

    __slots__ = ("calls", "engine", "over", "pipeline")

    def __init__(self, engine: Engine, pipeline: RecommendationPipeline):
        self.engine, self.pipeline = engine, pipeline
        self.calls, self.over = 0, False

    def leave(self) -> None:
        self.calls -= 1
        self.close_if_unused()

    def close_if_unused(self) -> None:
        if self.over and not self.calls:
            self.engine.close()


class LiveModel:
    """A Recommender (`recserv.server.ports`) whose engine can be swapped. On the event loop only."""

    def __init__(self, make_pipeline: Callable[[Engine], RecommendationPipeline], engine: Engine):
        self._make_pipeline = make_pipeline
        self._now = _Reign(engine, make_pipeline(engine))

    @property
    def engine(self) -> Engine:
        return self._now.engine

    def swap(self, engine: Engine) -> None:
        """Calls that begin from now on are answered by `engine`."""
        before, self._now = self._now, _Reign(engine, self._make_pipeline(engine))
        before.over = True
        before.close_if_unused()

    def close(self) -> None:
        self._now.over = True
        self._now.close_if_unused()

    async def recommend(self, query: RecommendQuery, deadline: Deadline, *, overloaded: bool = False) -> Recommendation:
        reign = self._now
        reign.calls += 1
        try:
            return await reign.pipeline.recommend(query, deadline, overloaded=overloaded)
        finally:
            reign.leave()

    async def context(self, tenant: str, key: ShopperKey, deadline: Deadline) -> ShopperContext:
        reign = self._now
        reign.calls += 1
        try:
            return await reign.pipeline.context(tenant, key, deadline)
        finally:
            reign.leave()
