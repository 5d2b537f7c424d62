"""Programs that tests start, and what they read from them."""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, AnyStr

from tests.patience import HANG_GUARD_S


def read_line(stream: IO[AnyStr]) -> AnyStr:
    """The next line that a program prints; empty if it has ended. A program that says nothing fails the test, which
    then has to end it.
    """
    lines: queue.SimpleQueue[AnyStr] = queue.SimpleQueue()
    threading.Thread(target=lambda: lines.put(stream.readline()), daemon=True).start()
    try:
        return lines.get(timeout=HANG_GUARD_S)
    except queue.Empty:
        raise AssertionError("the program prints nothing") from None


@contextmanager
def listening(
    command: Sequence[str], banner: str, end: Callable[[subprocess.Popen[str]], Any] = subprocess.Popen.kill
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the address that it prints behind `banner`; `end` is called on leaving."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = read_line(process.stdout)
            assert line.startswith(f"{banner} http://127.0.0.1:"), line
            yield process, line.removeprefix(banner).strip()
        finally:
            end(process)
