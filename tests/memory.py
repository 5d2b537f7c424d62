"""What something takes in memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable


def bytes_of(build: Callable[[], object]) -> int:
    """What the result of `build` keeps allocated."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = build()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        del kept
        return after - before
    finally:
        tracemalloc.stop()
