from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings

from recserv.stores.base import StateStore
from recserv.stores.embedded import EmbeddedLimits, EmbeddedStore
from recserv.types import Clock
from tests.patience import TEST_GUARD_S
from tests.stores.machine import Stored, StoreMachine

# Syncing to a disk would be most of the time, and is not what is tested here.
MEMORY = Path("/dev/shm")


class SmallMemoryBackend:
    """So few profiles fit in memory that most reads go through the file. Nothing is swept out of the log."""

    def __init__(self, directory: Path):
        self._path = directory / "state.db"

    async def start(self, clock: Clock) -> EmbeddedStore:
        limits = EmbeddedLimits(profiles_in_memory_max=2, sweep_interval_s=TEST_GUARD_S)
        store = EmbeddedStore(self._path, clock=clock, limits=limits)
        await store.open()
        return store


class EmbeddedMachine(StoreMachine):
    def make_backend(self) -> SmallMemoryBackend:
        self.directory = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        return SmallMemoryBackend(self.directory)

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "directory"):
            shutil.rmtree(self.directory)

    async def check_storage(self, store: StateStore, stored: list[Stored]) -> None:
        assert isinstance(store, EmbeddedStore)
        logged = await store.log_after(0, 10_000)
        assert [(row.tenant, row.append, row.sequence) for row in logged] == [tuple(held) for held in stored]
        for row in await store.counters():
            assert row.accepted - row.swept == row.logged
            of_this_kind = [h for h in stored if (h.tenant, h.append.event.event_type) == (row.tenant, row.event_type)]
            assert row.accepted == len(of_this_kind)


TestEmbeddedMachine = EmbeddedMachine.TestCase
TestEmbeddedMachine.settings = settings(
    max_examples=30,
    stateful_step_count=20,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
