"""A model is swapped while calls are under way: each call stays with the model that it began with."""

from __future__ import annotations

import asyncio

import pytest

from recserv.app.live import LiveModel
from recserv.app.model import load_model
from recserv.config import Settings
from recserv.pipeline.engine import Engine
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.settings import PipelineSettings
from recserv.resilience.deadline import Deadline
from recserv.stores.base import AppendEvent, AppendResult
from recserv.types import EventType, RecommendQuery, SessionEvent, SessionState, ShopperKey, ShopperState
from tests.factories import build_tiny_model
from tests.patience import HANG_GUARD_S

SEEN = ShopperState(
    sequence=1,
    session=SessionState(version=1, events=(SessionEvent(EventType.VIEW, "item-3", 0, 0, 1),)),
)


class HeldStore:
    """Answers reads once it is let go."""

    token_key = b""

    def __init__(self) -> None:
        self.let_go, self.waiting = asyncio.Event(), asyncio.Event()

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def append(self, tenant: str, events: list[AppendEvent]) -> list[AppendResult]:
        raise NotImplementedError

    async def read(self, tenant: str, keys: list[ShopperKey]) -> list[ShopperState]:
        self.waiting.set()
        await self.let_go.wait()
        return [SEEN] * len(keys)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Engine]:
    folder = tmp_path_factory.mktemp("two")
    paths = [build_tiny_model(folder / str(seed), seed=seed, items=200 + seed) for seed in (1, 2)]
    first, second = (load_model(Settings(model=str(path))).engine for path in paths)
    assert first.version != second.version
    return first, second


class Closed:
    """An engine that notes when it is closed."""

    def __init__(self, engine: Engine):
        self.closed = 0
        self._engine = engine

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def close(self) -> None:
        self.closed += 1


async def test_a_call_stays_with_the_model_that_it_began_with(engines: tuple[Engine, Engine]) -> None:
    first, second = (Closed(engine) for engine in engines)
    store = HeldStore()

    def make(engine: Engine) -> RecommendationPipeline:
        return RecommendationPipeline(engine, store, PipelineSettings())

    live = LiveModel(make, first)  # type: ignore[arg-type]
    query = RecommendQuery(session_id="s", page_size=5)
    early = asyncio.create_task(live.recommend(query, Deadline(HANG_GUARD_S)))
    await store.waiting.wait()
    live.swap(second)  # type: ignore[arg-type]
    assert live.engine is second
    assert first.closed == 0
    store.let_go.set()
    assert (await early).model_version == first.version
    assert first.closed == 1
    assert (await live.recommend(query, Deadline(HANG_GUARD_S))).model_version == second.version
    live.close()
    assert (first.closed, second.closed) == (1, 1)


async def test_nothing_that_was_computed_under_one_model_is_used_under_the_next(engines: tuple[Engine, Engine]) -> None:
    store = HeldStore()
    store.let_go.set()

    def make(engine: Engine) -> RecommendationPipeline:
        return RecommendationPipeline(engine, store, PipelineSettings(), clock=lambda: 1_000)

    live, alone = LiveModel(make, engines[0]), make(engines[1])
    query = RecommendQuery(session_id="s", page_size=10)
    await live.recommend(query, Deadline(HANG_GUARD_S))
    live.swap(engines[1])
    swapped = await live.recommend(query, Deadline(HANG_GUARD_S))
    expected = await alone.recommend(query, Deadline(HANG_GUARD_S))
    assert swapped.results == expected.results


async def test_a_call_that_fails_lets_go_of_its_model(engines: tuple[Engine, Engine]) -> None:
    first = Closed(engines[0])
    live = LiveModel(lambda engine: RecommendationPipeline(engine, None, PipelineSettings()), first)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="keeps no state"):
        await live.context("t", ShopperKey("s"), Deadline(HANG_GUARD_S))
    live.swap(engines[1])
    assert first.closed == 1
