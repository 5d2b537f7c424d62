"""Progress of a build for a person: a live bar, and a line with its time for each stage that is done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


@contextlib.contextmanager
def stages(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Gives the callback that a build calls with stage, done and total (0: unknown). Without a terminal there is no
    bar, only the lines.
    """
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        shown = _Stages(bar, console)
        yield shown.update
        shown.end()


class _Stages:
    def __init__(self, bar: Progress, console: Console):
        self._bar = bar
        self._console = console
        self._task: TaskID | None = None
        self._name = ""
        self._began_s = 0.0

    def update(self, name: str, done: int, total: int) -> None:
        if name != self._name or self._task is None:
            self.end()
            self._name, self._began_s = name, time.monotonic()
            self._task = self._bar.add_task(name)
        self._bar.update(self._task, completed=done, total=total or None)

    def end(self) -> None:
        if self._task is None:
            return
        self._bar.remove_task(self._task)
        self._task = None
        self._console.print(
            f"  {self._name:<24}{time.monotonic() - self._began_s:6.1f} s", markup=False, highlight=False
        )
