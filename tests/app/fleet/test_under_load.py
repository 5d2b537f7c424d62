"""Deployments at noon: servers and models are replaced under constant load, and no call fails."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from recserv.app.server_process import ServerProcess
from recserv.client import RecommendationClient
from recserv.types import Recommendation, RecommendQuery
from tests.app.fleet.constant_load import under_load
from tests.app.fleet.support import Fleet, fleet
from tests.factories import build_tiny_model
from tests.patience import HANG_GUARD_S, PATIENT_SERVER, eventually

pytestmark = pytest.mark.chaos

RESTARTS = 30
RELOADS = 30
SIZES = (150, 300)
PAUSE_S = 0.3
"""Between reloads in one process, which are over in a moment."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models that can be told apart by their answers: the larger one knows more items."""
    folder = tmp_path_factory.mktemp("models")
    return [build_tiny_model(folder / str(size), items=size, sessions=2 * size) for size in SIZES]


def of_one_model(versions: dict[str, int]) -> Callable[[Recommendation], None]:
    """Fails for an answer that holds what its model does not know; learns the versions by the larger one's items."""

    def check(answer: Recommendation) -> None:
        assert answer.results
        largest = max(int(result.item_id.removeprefix("item-")) for result in answer.results)
        assert largest < versions[answer.model_version], "an answer of two models"

    return check


async def versions_of(models: list[Path]) -> dict[str, int]:
    from recserv.model.snapshot import load_snapshot

    return {load_snapshot(path).version: size for path, size in zip(models, SIZES, strict=True)}


def switch(link: Path, model: Path) -> None:
    """The link is never absent and never points to half of anything."""
    new = link.with_name("new")
    new.symlink_to(model)
    os.replace(new, link)


async def test_thirty_rolling_restarts_of_a_two_worker_server_fail_no_call(
    models: list[Path], state: str, tmp_path: Path
) -> None:
    seed = secrets.randbelow(2**32)
    print(f"\nseed {seed}")
    options = ["--share-port", "on"]
    async with AsyncExitStack() as stack:
        before = ExitStack()
        server: Fleet = await asyncio.to_thread(before.enter_context, fleet(models[0], state, options))
        # Of whichever server is the last.
        stack.callback(lambda: before.close())  # noqa: PLW0108
        target = server.target
        load = await stack.enter_async_context(under_load(target, of_one_model(await versions_of(models)), seed))
        for _ in range(RESTARTS):
            after = ExitStack()
            started = fleet(models[0], state, [*options, "--listen", target])
            newer: Fleet = await asyncio.to_thread(after.enter_context, started)
            server.signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait, HANG_GUARD_S) == 0
            await asyncio.to_thread(before.close)
            before, server = after, newer
    load.report(f"{RESTARTS} rolling restarts")
    assert load.failed == []
    assert load.calls > 1000


async def test_thirty_reloads_of_a_two_worker_server_fail_no_call(
    models: list[Path], state: str, tmp_path: Path
) -> None:
    seed = secrets.randbelow(2**32)
    print(f"\nseed {seed}")
    link = tmp_path / "current"
    link.symlink_to(models[0])
    async with AsyncExitStack() as stack:
        server = stack.enter_context(fleet(link, state, ["--model-watch-ms", "50"]))
        load = await stack.enter_async_context(under_load(server.target, of_one_model(await versions_of(models)), seed))
        for number in range(RELOADS):
            old = await asyncio.to_thread(server.loaders)
            switch(link, models[(number + 1) % 2])
            await until(lambda old=old: server.loaders() and not set(old) & set(server.loaders()))
        assert server.metric("recserv_model_reloads_total", outcome="loaded") == RELOADS
    load.report(f"{RELOADS} reloads, two workers")
    assert load.failed == []
    assert len(load.models) == 2


async def test_thirty_reloads_of_one_process_fail_no_call(models: list[Path], tmp_path: Path) -> None:
    seed = secrets.randbelow(2**32)
    print(f"\nseed {seed}")
    link = tmp_path / "current"
    link.symlink_to(models[0])
    versions = await versions_of(models)
    async with AsyncExitStack() as stack:
        started = ServerProcess.started(link, tmp_path / "state.db", ["--model-watch-ms", "50", *PATIENT_SERVER])
        server = stack.enter_context(started)
        load = await stack.enter_async_context(under_load(server.target, of_one_model(versions), seed))
        for number in range(RELOADS):
            switch(link, models[(number + 1) % 2])
            wanted = list(versions)[(number + 1) % 2]
            await until(lambda wanted=wanted: serves(server.target, wanted))
            await asyncio.sleep(PAUSE_S)
        log = server.log_tail()
    load.report(f"{RELOADS} reloads, one process")
    assert load.failed == []
    assert '"level":"error"' not in log
    assert len(load.models) == 2


def serves(target: str, version: str) -> bool:
    with RecommendationClient(target) as client:
        return client.recommend(RecommendQuery()).model_version == version


async def until(true: Callable[[], object]) -> None:
    # Off the loop, which makes the load.
    await asyncio.to_thread(eventually, true)
