from __future__ import annotations

from pathlib import Path

import pytest

from recserv.stores.embedded import EmbeddedStore
from recserv.types import Clock
from tests.stores.contract import StoreContract
from tests.stores.support import DAY_MS


class EmbeddedBackend:
    def __init__(self, directory: Path):
        self._path = directory / "state.db"

    async def start(self, clock: Clock) -> EmbeddedStore:
        store = EmbeddedStore(self._path, clock=clock, retention_ms=DAY_MS)
        await store.open()
        return store


class TestEmbedded(StoreContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> EmbeddedBackend:
        return EmbeddedBackend(tmp_path)
