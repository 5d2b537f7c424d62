from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from recserv.stores.embedded import EmbeddedLimits, EmbeddedStore
from tests.patience import TEST_GUARD_S
from tests.proxy import TcpProxy
from tests.redis_server import RedisServer, running_redis
from tests.stores.support import ManualClock, OpenStore, Recorder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def hooks() -> Recorder:
    return Recorder()


@pytest.fixture
async def opened(path: Path, clock: ManualClock, hooks: Recorder) -> AsyncIterator[OpenStore]:
    """Opens stores on `path`; those still open at the end are closed. They sweep when a test says so."""
    stores: list[EmbeddedStore] = []

    async def open_store(**settings: Any) -> EmbeddedStore:
        settings.setdefault("sweep_interval_s", TEST_GUARD_S)
        limits = {name: settings.pop(name) for name in list(settings) if name in EmbeddedLimits.__struct_fields__}
        store = EmbeddedStore(path, clock=clock, hooks=hooks, limits=EmbeddedLimits(**limits), **settings)
        await store.open()
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        await store.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis"), options=["--appendfsync", "no"]) as server:
        yield server


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    """One of a module, empty."""
    with shared.client() as client:
        client.flushall()
    return shared


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[TcpProxy]:
    with TcpProxy(server.host, server.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def unsynced_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """For examples by the hundred, where syncing to a disk would be most of the time and is not what is tested."""
    with running_redis(tmp_path_factory.mktemp("redis"), options=["--appendonly", "no"]) as server:
        yield server
