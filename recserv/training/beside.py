"""Work in a process of its own while this one goes on with its own.

    work(*given, progress) -> process -> (stage, done, total) ... -> what work returned

Its progress is told where this process looks for it. A process that does not come to its end, for want of memory say,
costs time alone: the work is then done here, and raises here what it raises. One whose parent has died ends with its
next word on its progress.
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
        # So that its end is the end of what can be received.
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
            logger.warning("a process of the build ended too soon; its work is done again")
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
    # A Ctrl-C is the parent's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # With this end open here nobody would hear of the parent's death.
    receiver.close()

    def progress(stage: str, done: int, total: int) -> None:
        sender.send((True, (stage, done, total)))

    try:
        sender.send((False, work(*given, progress)))
    except BrokenPipeError:
        os._exit(1)
