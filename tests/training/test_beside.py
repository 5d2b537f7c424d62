from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from recserv.errors import DatasetError
from recserv.training.beside import Beside
from recserv.training.problems import Progress, no_progress
from tests.patience import eventually
from tests.processes import read_line
from tests.project_files import ROOT


def add(first: int, second: int, progress: Progress) -> tuple[int, int]:
    for done in range(3):
        progress("adding", done, 3)
    return first + second, os.getpid()


def fail(progress: Progress) -> None:
    raise DatasetError("events.csv", "nothing to learn from")


def die(here: int, progress: Progress) -> int:
    """But where it began."""
    if os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


def hang(progress: Progress) -> None:
    threading.Event().wait()


def test_the_work_is_done_in_another_process_and_its_progress_told_here() -> None:
    seen = []
    with Beside(add, 2, 3) as adding:
        total, where = adding.result(lambda *told: seen.append(told))
        assert adding.result(no_progress) == (total, where)
    assert total == 5
    assert where != os.getpid()
    assert seen == [("adding", done, 3) for done in range(3)]


def test_progress_is_told_while_this_process_goes_on() -> None:
    seen: list[str] = []
    with Beside(add, 2, 3) as adding:
        here = adding.telling(lambda stage, _done, _total: seen.append(stage))

        def all_told() -> bool:
            here("meanwhile", 0, 0)
            return seen.count("adding") == 3

        eventually(all_told)
    assert seen[-1] == "meanwhile"


def test_an_error_in_the_process_is_raised_in_the_parent(capfd: pytest.CaptureFixture[str]) -> None:
    with Beside(fail) as failing, pytest.raises(DatasetError, match="nothing to learn from"):
        failing.result(no_progress)
    assert "nothing to learn from" in capfd.readouterr().err


def test_the_work_of_a_process_that_died_is_done_here(caplog: pytest.LogCaptureFixture) -> None:
    with Beside(die, os.getpid()) as dying:
        assert dying.result(no_progress) == 7
    assert "its work is done again" in caplog.text


def test_leaving_the_block_with_an_exception_ends_the_process() -> None:
    before = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt), Beside(hang):
        raise KeyboardInterrupt
    assert multiprocessing.active_children() == before


def test_a_process_whose_parent_was_killed_ends_with_its_next_word(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, time
            from recserv.training.beside import Beside

            def work(progress):
                print(os.getpid(), flush=True)
                while True:
                    time.sleep(0.05)
                    progress("working", 0, 0)

            if __name__ == "__main__":
                with Beside(work) as working:
                    working.result(lambda *told: None)
            """
        )
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    with parent:
        assert parent.stdout is not None
        try:
            child = int(read_line(parent.stdout))
        finally:
            parent.kill()
    eventually(lambda: not running(child), "the child ends, too")


def running(pid: int) -> bool:
    """Not ended; one that nobody waited for has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
