"""Fixtures that several rooms share. Parts are imported inside, so a broken part fails its own tests only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from recserv.commands.server_process import ServerProcess
    from tests.redis_server import RedisServer


def pytest_addoption(parser: pytest.Parser) -> None:
    chaos = parser.getgroup("chaos")
    chaos.addoption("--full", action="store_true", help="every pair of faults, for 20 s each (hours)")
    chaos.addoption("--fault-s", type=float, metavar="S", help="how long each fault lasts (5, with --full 20)")
    chaos.addoption("--chaos-seed", type=int, metavar="N", help="draws the pairs; printed when it is drawn itself")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model directory of a few items. Read it, copy it; never write into it."""
    from tests.factories import build_tiny_model

    model = tmp_path_factory.mktemp("tiny") / "model"
    build_tiny_model(model)
    return model


@pytest.fixture(scope="session")
def demo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that `recserv demo` builds: most of a minute, for slow tests only."""
    from recserv.commands.demo import demo_options
    from recserv.training import complete_journey
    from recserv.training.build import build

    folder = tmp_path_factory.mktemp("demo")
    events, catalog = complete_journey.prepare(folder)
    build(demo_options(events, catalog, folder / "model"))
    return folder / "model"


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A running Redis (or Valkey) server, empty, on a loopback port. Fails where neither can be found."""
    from tests.redis_server import running_redis

    directory = tmp_path / "redis"
    directory.mkdir()
    with running_redis(directory) as server:
        yield server


@pytest.fixture(scope="module")
def recserv_server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`recserv serve` on the tiny model, in a process of its own, with a state of its own. One for a test module."""
    from recserv.commands.server_process import ServerProcess

    state = tmp_path_factory.mktemp("state") / "state.db"
    with ServerProcess.started(tiny_model, state) as server:
        yield server
