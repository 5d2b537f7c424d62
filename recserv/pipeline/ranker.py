"""The interface for a ranker other than the model's own: another process or library, or a test that breaks it.

The model's own ranker works on the table of candidates in place (`_rank.Scorer`). A replacement gets a copy of the
table's features, runs on a thread of its own unless it is `bounded`, and may fail, hang or answer nonsense.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from recserv.pipeline.degradation import BadAnswer

Floats = npt.NDArray[np.float32]


class Ranker(Protocol):
    @property
    def bounded(self) -> bool:
        """True if scoring only computes over resident memory and never waits, so that it may run on the event loop."""

    def scores(self, features: Floats) -> Floats:
        """float32 [m], finite, larger is better; features: float32 [m, f], as in `ranking_features.FEATURES`."""


def checked(scores: object, rows: int) -> Floats:
    """Raises BadAnswer for anything but `rows` finite numbers."""
    if not isinstance(scores, np.ndarray) or scores.shape != (rows,) or scores.dtype.kind != "f":
        raise BadAnswer(f"the ranker did not score {rows} rows")
    if not np.isfinite(scores).all():
        raise BadAnswer("the ranker gave a score that is not a number")
    return np.asarray(scores, np.float32)
