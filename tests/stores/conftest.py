from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from recserv.stores.embedded import EmbeddedLimits, EmbeddedStore
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
    """Opens stores on `path`; those still open at the end are closed."""
    stores: list[EmbeddedStore] = []

    async def open_store(**settings: Any) -> EmbeddedStore:
        limits = {name: settings.pop(name) for name in list(settings) if name in EmbeddedLimits.__struct_fields__}
        store = EmbeddedStore(path, clock=clock, hooks=hooks, limits=EmbeddedLimits(**limits), **settings)
        await store.open()
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        await store.close()
