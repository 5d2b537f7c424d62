"""The place of a ranker that is not the model's own: another process, another library, a test that breaks it.

The model's own ranker works inside the table of candidates (`_rank.Scorer`). One that takes its place gets the table's
features as a copy, on a thread of its own unless it is `bounded`, and may fail, hang or answer nonsense.
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
        """Scoring is computation over resident memory and waits for nothing: it may be done on the event loop."""

    def scores(self, features: Floats) -> Floats:
        """float32 [m], finite, larger is better; features: float32 [m, f], as in `ranking_features.FEATURES`."""


def checked(scores: object, rows: int) -> Floats:
    """Raises BadAnswer for anything but `rows` finite numbers."""
    if not isinstance(scores, np.ndarray) or scores.shape != (rows,) or scores.dtype.kind != "f":
        raise BadAnswer(f"the ranker did not score {rows} rows")
    if not np.isfinite(scores).all():
        raise BadAnswer("the ranker gave a score that is not a number")
    return np.asarray(scores, np.float32)
