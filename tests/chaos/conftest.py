"""One rig for all faults of a run, a fault-free control in it, and the table at the end."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.rig import Result, Rig
from tests.chaos.table import Row, detail, summary, totals

CONTROL_S = 10.0
CONTROL_ATTEMPTS = 3
ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture(scope="session")
def rig(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig.started(tiny_model, tmp_path_factory.mktemp("chaos")) as started:
        yield started


@pytest.fixture(scope="session")
def control(rig: Rig, rows: list[Row]) -> Result:
    """The same load with nothing broken: what the machine can do; the best of a few where somebody else uses it."""
    results = []
    for _ in range(CONTROL_ATTEMPTS):
        results.append(rig.run((), CONTROL_S))
        if not results[-1].disturbed:
            break
    result = min(results, key=lambda one: (one.outcome.failed, len(one.outcome.late), one.outcome.p99_s))
    rows.append(Row((), result))
    return result


@pytest.fixture(scope="session")
def rows(pytestconfig: pytest.Config) -> list[Row]:
    return pytestconfig.stash.setdefault(ROWS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if rows := config.stash.get(ROWS, []):
        terminalreporter.section(f"chaos, {datetime.date.today().isoformat()}")
        for line in ["Every run:", *detail(rows), "", "For the README:", *summary(rows), "", totals(rows)]:
            terminalreporter.write_line(line)
