"""Work in a child process while this process continues with its own.

    work(*given, progress) -> process -> (stage, done, total) ... -> what work returned

The child's progress is reported through this process. If the child dies, out of memory for instance, only time is lost:
the work is done again here, and raises here what it raises. A child whose parent has died ends when it next reports
progress.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Generic, TypeVar

from recserv.training.problems import Progress

logger = logging.getLogger(__name__)

R = TypeVar("R")
POSSIBLE = sys.platform == "linux"
"""A fork shares what is given, and the limits on threads; elsewhere system libraries may not survive one."""


class Beside(Generic[R]):
    """`work(*given, progress)`, begun at once; a context manager, whose end is the end of the process, too."""

    def __init__(self, work: Callable[..., R], *given: Any):
        self._work, self._given = work, given
        context = multiprocessing.get_context("fork")
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(self._receiver, sender, work, given), daemon=True)
        self._process.start()
        # So that the child's end closes the pipe.
        sender.close()
        self._over = False
        self._results: list[R] = []
        """One, if it came to its end."""

    def __enter__(self) -> Beside[R]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.join()
        self._receiver.close()

    def telling(self, progress: Progress) -> Progress:
        """For what is done meanwhile: before its own progress, the process's so far is told."""

        def both(stage: str, done: int, total: int) -> None:
            while not self._over and self._receiver.poll():
                self._receive(progress)
            progress(stage, done, total)

        return both

    def result(self, progress: Progress) -> R:
        """Waits for it."""
        while not self._over:
            self._receive(progress)
        if not self._results:
            logger.warning("a child process of the build died; its work is done again")
            self._results.append(self._work(*self._given, progress))
        return self._results[0]

    def _receive(self, progress: Progress) -> None:
        try:
            told, content = self._receiver.recv()
        except EOFError:
            self._over = True
            return
        if told:
            progress(*content)
        else:
            self._over = True
            self._results.append(content)


def _run(receiver: Connection, sender: Connection, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    # Ctrl-C is for the parent to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # With this end open in the child, the parent's death would go unnoticed.
    receiver.close()

    def progress(stage: str, done: int, total: int) -> None:
        sender.send((True, (stage, done, total)))

    try:
        sender.send((False, work(*given, progress)))
    except BrokenPipeError:
        os._exit(1)
