"""Composition: what is started with what, and what a fault of each part does to the whole."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from recserv.app import RetriedStore, load_model, running
from recserv.config import Settings
from recserv.errors import StoreUnavailable, UsageError
from recserv.stores.base import AppendEvent, AppendResult, AppendStatus
from recserv.types import Event, ShopperKey, ShopperState


def settings(model: Path, tmp_path: Path, **changes: object) -> Settings:
    given = {"listen": "127.0.0.1:0", "metrics_listen": "off", "state": f"embedded:{tmp_path / 'state.db'}", **changes}
    return Settings(model=str(model), **given)  # type: ignore[arg-type]


@pytest.fixture
def own_model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_model_is_refused_by_directory_and_file(own_model: Path, tmp_path: Path) -> None:
    flip(own_model / "embeddings.npy")
    with pytest.raises(UsageError, match=r"embeddings\.npy") as caught:
        load_model(settings(own_model, tmp_path))
    assert str(own_model) in str(caught.value)


async def test_a_damaged_model_serves_its_popular_items_if_asked_to(own_model: Path, tmp_path: Path) -> None:
    flip(own_model / "embeddings.npy")
    chosen = settings(own_model, tmp_path, on_bad_model="popular")
    model = load_model(chosen)
    assert (model.index, model.snapshot.popular_only) == (None, True)
    async with running(chosen, model) as app:
        assert app.address


def test_a_model_whose_popular_items_are_damaged_too_is_refused_all_the_same(own_model: Path, tmp_path: Path) -> None:
    flip(own_model / "popular_items.npy")
    with pytest.raises(UsageError, match=r"popular_items\.npy"):
        load_model(settings(own_model, tmp_path, on_bad_model="popular"))


def test_a_model_without_its_index_is_served_without_one(own_model: Path, tmp_path: Path) -> None:
    (own_model / "index.hnsw").unlink()
    assert load_model(settings(own_model, tmp_path)).index is None


async def test_a_state_file_in_use_ends_the_start(tiny_model: Path, tmp_path: Path) -> None:
    chosen = settings(tiny_model, tmp_path)
    model = load_model(chosen)
    async with running(chosen, model):
        with pytest.raises(UsageError):
            async with running(chosen, model):
                pass


async def test_a_start_that_fails_halfway_lets_go_of_everything(tiny_model: Path, tmp_path: Path) -> None:
    chosen = settings(tiny_model, tmp_path)
    model = load_model(chosen)
    async with running(chosen, model) as first:
        second = settings(tiny_model, tmp_path, state=f"embedded:{tmp_path / 'other.db'}", listen=first.address)
        with pytest.raises(UsageError, match="cannot listen"):
            async with running(second, model):
                pass
        # The store of the failed start is free again.
        third = settings(tiny_model, tmp_path, state=f"embedded:{tmp_path / 'other.db'}")
        async with running(third, model):
            pass


class Flaky:
    """A store that opens at the given attempt."""

    def __init__(self, opens: Callable[[], bool]):
        self._opens, self.closed = opens, False

    async def open(self) -> None:
        if not self._opens():
            raise StoreUnavailable("disk full")

    async def close(self) -> None:
        self.closed = True

    async def append(self, tenant: str, events: Sequence[AppendEvent]) -> list[AppendResult]:
        return [AppendResult(AppendStatus.ACCEPTED, 1)] * len(events)

    async def read(self, tenant: str, keys: Sequence[ShopperKey]) -> list[ShopperState]:
        return [ShopperState(sequence=1)] * len(keys)


EVENT = AppendEvent(Event(event_id="e"), b"", 0, 0)


async def test_a_store_that_cannot_be_opened_is_unavailable_and_tried_again() -> None:
    able = asyncio.Event()
    made: list[Flaky] = []

    def make() -> Flaky:
        made.append(Flaky(able.is_set))
        return made[-1]

    store = RetriedStore(make, retry_s=0.001)
    await store.open()
    [result] = await store.append("t", [EVENT])
    assert result.status == AppendStatus.UNAVAILABLE
    with pytest.raises(StoreUnavailable):
        await store.read("t", [ShopperKey("s")])
    able.set()
    async with asyncio.timeout(10):
        while (await store.append("t", [EVENT]))[0].status != AppendStatus.ACCEPTED:
            await asyncio.sleep(0.001)
    assert [state.sequence for state in await store.read("t", [ShopperKey("s")])] == [1]
    await store.close()
    assert made[-1].closed


async def test_a_store_that_never_opened_can_be_closed() -> None:
    store = RetriedStore(lambda: Flaky(lambda: False), retry_s=60.0)
    await store.open()
    await store.close()


async def test_what_can_never_work_ends_the_start() -> None:
    class Hopeless(Flaky):
        async def open(self) -> None:
            raise UsageError("not a database")

    with pytest.raises(UsageError):
        await RetriedStore(lambda: Hopeless(lambda: False)).open()
