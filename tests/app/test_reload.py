"""When a model is loaded anew, and what becomes of one that is bad."""

from __future__ import annotations

import asyncio
import gc
import itertools
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv.app.alone import reload_in_place
from recserv.app.model import load_model
from recserv.app.reload import Identity, ModelWatch, Sightings, identity_of
from recserv.app.serving import running
from recserv.config import Settings
from recserv.errors import UsageError
from tests.factories import build_tiny_model
from tests.patience import HANG_GUARD_S


def identity(number: int) -> Identity:
    return ((0, number, 0, 0),)


def test_a_new_model_is_loaded_once_it_was_seen_twice() -> None:
    sightings = Sightings(identity(1))
    seen = [sightings.see(identity(n) if n else None) for n in (1, 1, 2, 2, 2, 3, 0, 3, 3, 3)]
    assert seen == [False, False, False, True, False, False, False, False, True, False]


def test_what_was_loaded_on_demand_is_not_loaded_again() -> None:
    sightings = Sightings(identity(1))
    sightings.see(identity(2))
    sightings.tried(identity(2))
    assert [sightings.see(identity(2)) for _ in range(3)] == [False, False, False]


@given(st.lists(st.integers(0, 3), max_size=40))
def test_no_model_is_tried_twice_in_a_row_nor_before_it_stands_still(numbers: list[int]) -> None:
    sightings, tried, before = Sightings(identity(1)), [1], 0
    for number in numbers:
        if sightings.see(identity(number) if number else None):
            assert number == before
            tried.append(number)
        before = number
    assert all(a != b for a, b in itertools.pairwise(tried))
    # Whatever stood still last is what was tried last.
    if len(numbers) >= 2 and numbers[-1] == numbers[-2] != 0:
        assert tried[-1] == numbers[-1]


def test_a_directory_that_is_replaced_or_a_link_that_is_switched_is_another_model(
    tiny_model: Path, tmp_path: Path
) -> None:
    first, second = (Path(shutil.copytree(tiny_model, tmp_path / name)) for name in ("a", "b"))
    link = tmp_path / "current"
    link.symlink_to(first)
    seen = [identity_of(link)]
    link.unlink()
    seen.append(identity_of(link))
    link.symlink_to(second)
    seen.append(identity_of(link))
    first.rename(tmp_path / "old")
    second.rename(first)
    assert seen[1] is None
    assert len({seen[0], seen[2]}) == 2
    assert identity_of(first) == seen[2]


async def test_a_watch_reloads_on_demand_and_on_sight_and_survives_a_reload_that_raises(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    reasons: asyncio.Queue[str] = asyncio.Queue()

    async def reload(reason: str) -> None:
        reasons.put_nowait(reason)
        raise RuntimeError("nobody thought of this")

    watch = ModelWatch(str(model), 1, identity_of(model), reload)
    task = asyncio.create_task(watch.run())
    async with asyncio.timeout(HANG_GUARD_S):
        watch.ask()
        assert await reasons.get() == "SIGHUP"
        shutil.copytree(tiny_model, tmp_path / "next")
        model.rename(tmp_path / "before")
        (tmp_path / "next").rename(model)
        assert await reasons.get() == "file"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert reasons.empty()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


SPOILS: dict[str, Callable[[Path], None]] = {
    "damaged": lambda model: flip(model / "embeddings.npy"),
    "without its index": lambda model: (model / "index.hnsw").unlink(),
    "gone": shutil.rmtree,
}


@pytest.mark.parametrize("spoil", SPOILS)
async def test_a_bad_model_is_refused_and_counted_and_the_old_one_serves_on(
    spoil: str, tiny_model: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    # Even if a start would put up with it.
    settings = Settings(
        model=str(model),
        listen="127.0.0.1:0",
        metrics_listen="off",
        state=f"embedded:{tmp_path / 'state.db'}",
        on_bad_model="popular",
    )
    async with running(settings, load_model(settings)) as app:
        version = app.live.engine.version
        shutil.rmtree(model)
        SPOILS[spoil](build_tiny_model(model, seed=7))
        await reload_in_place(settings, app, "test")
        assert app.live.engine.version == version
        assert app.metrics.registry.get_sample_value("recserv_model_reloads_total", {"outcome": "refused"}) == 1
        shutil.rmtree(model, ignore_errors=True)
        build_tiny_model(model, seed=7)
        await reload_in_place(settings, app, "test")
        assert app.live.engine.version != version
        assert app.metrics.registry.get_sample_value("recserv_model_reloads_total", {"outcome": "loaded"}) == 1
        assert app.metrics.registry.get_sample_value("recserv_model_info", {"version": app.live.engine.version}) == 1
        await reload_in_place(settings, app, "test")
        assert app.metrics.registry.get_sample_value("recserv_model_reloads_total", {"outcome": "unchanged"}) == 1


async def test_nothing_of_a_model_stays_in_memory_once_another_one_serves(tiny_model: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    settings = Settings(
        model=str(model), listen="127.0.0.1:0", metrics_listen="off", state=f"embedded:{tmp_path / 'state.db'}"
    )
    try:
        async with running(settings, load_model(settings)) as app:
            # As the server does. From now on no collector finds the first model: it must not be part of any cycle.
            gc.collect()
            gc.freeze()
            for seed in (7, 8):
                before = [weakref.ref(app.live.engine), weakref.ref(app.live.engine.embeddings)]
                shutil.rmtree(model)
                build_tiny_model(model, seed=seed)
                await reload_in_place(settings, app, "test")
                gc.collect()
                assert [kept() for kept in before] == [None, None]
    finally:
        gc.unfreeze()


def test_a_start_on_a_model_that_is_gone_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        load_model(Settings(model=str(tmp_path / "nothing")))
