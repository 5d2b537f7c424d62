from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from recserv.index.listed import ListedIndex
from recserv.model.snapshot import load_snapshot
from recserv.pipeline.engine import Engine
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.settings import PipelineSettings
from recserv.resilience.deadline import MonotonicClock
from recserv.stores.explanations_memory import Shelf
from tests.pipeline.enrich_worker import Worker
from tests.pipeline.support import NOW_MS, Recorder, no_time_passes
from tests.pipeline.virtual_time import virtual_time
from tests.stores.support import ManualClock


@pytest.fixture(scope="session")
def snapshot(tiny_model):
    return load_snapshot(tiny_model)


@pytest.fixture(scope="session")
def index(snapshot):
    with snapshot.verified_index() as path:
        return ListedIndex.load(path, snapshot.embeddings, snapshot.nearest_items)


@pytest.fixture
def engine(snapshot, index):
    engine = Engine(snapshot, index, clock=no_time_passes)
    yield engine
    engine.close()


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def pipeline(engine, recorder):
    def make(store=None, **settings):
        return RecommendationPipeline(
            engine, store, PipelineSettings(**settings), clock=lambda: NOW_MS, observer=recorder
        )

    return make


@pytest.fixture
async def virtual() -> AsyncIterator[MonotonicClock]:
    """Time goes by as soon as everything waits for it; the clock by which it does."""
    with virtual_time() as clock:
        yield clock


@pytest.fixture
def clock() -> ManualClock:
    """The wall clock of all workers."""
    return ManualClock()


@pytest.fixture
async def make(engine: Any, clock: ManualClock) -> AsyncIterator[Callable[..., Any]]:
    made: list[Worker] = []

    async def make(shelf: Shelf | None = None, name: str = "one", **changes: Any) -> Worker:
        made.append(Worker(engine, shelf, name, **{"clock": clock, **changes}))
        await made[-1].start()
        return made[-1]

    yield make
    for worker in made:
        await worker.close()
