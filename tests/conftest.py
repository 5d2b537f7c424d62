"""Fixtures that several rooms share. Parts are imported inside, so a broken part fails its own tests only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.patience import LANES, PATIENT_SERVER, TEST_GUARD_S

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess
    from tests.redis_server import RedisServer


# Threads of the BLAS spin while they wait for each other: where others use the processors, a small model took ten times
# as long to build. Before anything imports NumPy; what tests start inherits it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The gate draws the same examples at every run. `--hypothesis-profile=random` is for those who look for new ones; what
# fails there is printed as an @reproduce_failure, which is how it gets into the gate.
hypothesis.settings.register_profile("gate", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("random", deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile("gate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test of the gate that hangs is a failure with its stack, not a gate that never ends."""
    for item in items:
        if not any(item.get_closest_marker(lane) for lane in LANES):
            item.add_marker(pytest.mark.timeout(TEST_GUARD_S))


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
    from recserv.app.server_process import ServerProcess

    state = tmp_path_factory.mktemp("state") / "state.db"
    with ServerProcess.started(tiny_model, state, PATIENT_SERVER) as server:
        yield server
