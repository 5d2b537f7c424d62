"""A progress bar for what reports (stage, done, total)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_READING = "reading "
_BESIDE = ("older sessions", "examples to rank", "ranker")
"""Stages that run beside the others."""


@contextmanager
def progress_bar(console: Console, title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Yields the function to report to. A file that is read has a bar of its own, and so have the stages of the ranker;
    all others share `title`.
    """
    columns = (TextColumn("{task.description:<44}"), BarColumn(bar_width=32), TimeElapsedColumn())
    progress = Progress(*columns, console=console)
    bars: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int) -> None:
        name = stage if stage.startswith(_READING) else "ranker" if stage.startswith(_BESIDE) else title
        if name not in bars:
            # Started late, because drawing nothing still leaves an empty line behind.
            progress.start()
            for earlier, bar in bars.items():
                if earlier.startswith(_READING):
                    _finish(progress, bar)
            bars[name] = progress.add_task(name, total=None)
        text = stage if name == stage else f"{title}: {stage}"
        progress.update(bars[name], description=text, completed=done, total=total or None)

    try:
        yield report
        for bar in bars.values():
            _finish(progress, bar)
    finally:
        if bars:
            progress.stop()


def _finish(progress: Progress, bar: TaskID) -> None:
    total = next(task.total for task in progress.tasks if task.id == bar) or 1
    progress.update(bar, completed=total, total=total)
