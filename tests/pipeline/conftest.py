from __future__ import annotations

import pytest

from recserv.index.hnsw import HnswIndex
from recserv.model.snapshot import load_snapshot
from recserv.pipeline.engine import Engine
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.settings import PipelineSettings
from tests.pipeline.support import NOW_MS, Recorder


@pytest.fixture(scope="session")
def snapshot(tiny_model):
    return load_snapshot(tiny_model)


@pytest.fixture(scope="session")
def index(snapshot):
    with snapshot.verified_index() as path:
        return HnswIndex.load(path, dimensions=snapshot.dimensions)


@pytest.fixture
def engine(snapshot, index):
    engine = Engine(snapshot, index)
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
