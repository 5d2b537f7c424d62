"""What tests read from programs that they started."""

from __future__ import annotations

import queue
import threading
from typing import IO, AnyStr

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
