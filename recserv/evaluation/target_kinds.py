"""What makes a question hard: its target is not known to the model, or hardly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recserv.evaluation.questions import Questions
from recserv.model.snapshot import ModelSnapshot

RARE_SESSIONS = 5


class TargetKinds(NamedTuple):
    """Of n questions, bool [n] each. `unknown`: the target is no item of the model; `rare`: it is in fewer than
    RARE_SESSIONS sessions that the model was built from, in none included.
    """

    unknown: npt.NDArray[np.bool_]
    rare: npt.NDArray[np.bool_]


def target_kinds(snapshot: ModelSnapshot, questions: Questions) -> TargetKinds:
    item_rows = np.array([snapshot.items.row(target) for _, target in questions.lines], np.int64)
    sessions = np.append(np.diff(snapshot.knn_item_offsets), 0)  # Row -1 is the last.
    return TargetKinds(item_rows < 0, (item_rows >= 0) & (sessions[item_rows] < RARE_SESSIONS))
