"""An index and a ranker that break on command, and a wall clock that can be moved: what a server of the chaos suite is
composed with. Without a fault they do what the real ones do.

    raise    an exception of the library
    hang     HANG_S of sleep, which nothing interrupts
    garbage  something else at each call: wrong shapes, NaN, items that do not exist, disorder, no array at all
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from recserv.index.base import NOWHERE, VectorIndex
from recserv.pipeline.scoring import PLAIN_WEIGHTS
from recserv.ranking_features import FEATURE_NAMES

HANG_S = 10.0
Floats = npt.NDArray[np.float32]
ItemRows = npt.NDArray[np.int32]


class LibraryError(Exception):
    """Not one of ours: what a foreign library may raise."""


class Faults:
    """What is broken now; set from the control thread, read wherever it matters."""

    def __init__(self) -> None:
        self.index = ""
        self.ranker = ""
        self.clock_step_s = 0.0

    def set(self, index: str = "", ranker: str = "", clock_step_s: float = 0.0) -> None:
        self.index, self.ranker, self.clock_step_s = index, ranker, clock_step_s


def _misbehave(fault: str) -> None:
    if fault == "raise":
        raise LibraryError("the library says no")
    if fault == "hang":
        time.sleep(HANG_S)


class BreakableIndex:
    """A VectorIndex around another one. Not `bounded`: it may hang, so it is searched on a thread."""

    bounded = False

    def __init__(self, index: VectorIndex, faults: Faults):
        self._index, self._faults = index, faults
        self._turn = itertools.count()

    @property
    def size(self) -> int:
        return self._index.size

    @property
    def dimensions(self) -> int:
        return self._index.dimensions

    def search(self, query: Floats, k: int, near: ItemRows = NOWHERE) -> Any:
        fault = self._faults.index
        _misbehave(fault)
        items, similarities = self._index.search(query, k, near)
        if fault != "garbage":
            return items, similarities
        garbage: list[Any] = [
            (items, np.full(len(items), np.nan, np.float32)),
            (items + np.int32(1_000_000_000), similarities),
            (-items - 1, similarities),
            (items[:1], similarities),
            (np.repeat(items[:1], len(items)), similarities),
            (items, similarities[::-1].copy()),
            (items.astype(np.float64), similarities),
            (items.reshape(1, -1), similarities.reshape(1, -1)),
            None,
            ("items", "similarities"),
            items,
        ]
        return garbage[next(self._turn) % len(garbage)]


class BreakableRanker:
    """A Ranker: fixed weights over the features, until it breaks."""

    bounded = False

    def __init__(self, faults: Faults):
        self._faults = faults
        self._weights = np.array([PLAIN_WEIGHTS.get(name, 0.0) for name in FEATURE_NAMES], np.float32)
        self._turn = itertools.count()

    def scores(self, features: Floats) -> Any:
        fault = self._faults.ranker
        _misbehave(fault)
        scores = features @ self._weights
        if fault != "garbage":
            return scores
        garbage: list[Any] = [
            np.full(len(scores), np.nan, np.float32),
            np.full(len(scores), np.inf, np.float32),
            scores[:-1],
            np.empty(0, np.float32),
            features,
            scores.astype(str),
            scores.tolist(),
            None,
            "scores",
        ]
        return garbage[next(self._turn) % len(garbage)]


def move_the_clock(faults: Faults) -> None:
    """From now on this process's wall clock is `faults.clock_step_s` off wherever the serving path reads it, which is
    `time.time_ns`. The monotonic clocks go on, as they do when a real clock is set.

    `time.time` stays: gRPC compares it with a deadline that its core has converted by the real clock, and a step that
    only one of the two sees is none that a machine can make.
    """
    time_ns = time.time_ns
    time.time_ns = lambda: time_ns() + round(faults.clock_step_s * 1e9)
