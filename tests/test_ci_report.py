"""The last lines of a red gate say what failed: which test, at which line, and every other step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT

LAST_LINES = 60
BROKEN = """
import pytest

class TestThing:
    def test_of_a_class(self):
        assert 2 + 2 == 5

@pytest.mark.parametrize("n", range({many}))
def test_of_many(n):
    assert n < 0
"""


def pytest_of(logs: Path, source: str) -> int:
    """Runs pytest on the source as a step called "fast" does; returns its exit status."""
    (logs / "test_broken.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "--junitxml=fast.xml"]
    ended = subprocess.run(
        [*command, "test_broken.py"], cwd=logs, capture_output=True, text=True, timeout=HANG_GUARD_S, check=False
    )
    (logs / "fast.log").write_text(ended.stdout)
    return ended.returncode


def report_of(logs: Path, *steps: tuple[str, int]) -> tuple[int, list[str]]:
    (logs / "steps.tsv").write_text("".join(f"{name}\t{status}\t7\n" for name, status in steps))
    ended = subprocess.run(
        [sys.executable, "-I", str(ROOT / ".ci/report.py"), str(logs)],
        capture_output=True,
        text=True,
        timeout=HANG_GUARD_S,
        check=False,
    )
    assert ended.stderr == ""
    return ended.returncode, ended.stdout.splitlines()


@pytest.mark.parametrize("many", [1, 200])
def test_a_red_run_explains_itself_in_its_last_lines(tmp_path: Path, many: int) -> None:
    status = pytest_of(tmp_path, BROKEN.format(many=many))
    (tmp_path / "lint.log").write_text("All checks ran\nrecserv/x.py:1:1: F401 unused\n")
    code, lines = report_of(tmp_path, ("demo", 0), ("fast", status), ("lint", 1))
    last = lines[-LAST_LINES:]
    assert code == 1
    assert "[fast] FAILED test_broken.py::TestThing::test_of_a_class" in last
    assert ">       assert 2 + 2 == 5" in last
    assert "test_broken.py:6: AssertionError" in last
    assert "[fast] FAILED test_broken.py::test_of_many[0]" in last
    assert {"[lint] exit status 1", "recserv/x.py:1:1: F401 unused", "== FAILED: fast lint"} <= set(last)
    assert f"{many + 1} failed" in last[-1]


def test_a_step_that_ended_before_pytest_did_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "fast.log").write_text("line\n" * 40 + "Segmentation fault\n")
    code, lines = report_of(tmp_path, ("fast", 139))
    assert code == 1
    assert "Segmentation fault" in lines[-LAST_LINES:]


def test_a_green_run_passes_and_one_without_a_step_does_not(tmp_path: Path) -> None:
    assert pytest_of(tmp_path, "def test_fine():\n    pass\n") == 0
    assert report_of(tmp_path, ("fast", 0))[0] == 0
    assert report_of(tmp_path)[0] == 1
