from __future__ import annotations

import pytest

from recserv.index.hnsw import HnswIndex
from recserv.model.snapshot import load_snapshot
from recserv.pipeline.engine import Engine


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
