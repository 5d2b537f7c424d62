"""Whether a model was trained on the sessions that it is asked about; its figures then show memory, not prediction.

Known, where the file says from which data it is (`questions`): the model was built beside it, or its events end before
the sessions of the file do, or they do not. Otherwise it is looked for: the model holds its newest sessions, for
session-kNN; a line of several items that all lie in one of them is rare if the session is a new one, and the rule if it
is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from recserv.evaluation.questions import Line, Questions
from recserv.model.snapshot import ModelSnapshot

LINES_MAX = 3_000
LINES_MIN = 20
ITEMS_MIN = 4
ITEMS_MAX = 7
SEEN_SHARE = 0.3
"""Of the lines looked at. Of sessions that were kept apart less than a tenth lay in a session of the model (Diginetica,
Online Retail), of those that were not more than nine tenths."""
_LISTED_MAX = 500
"""Sessions that a model lists for an item; where it lists fewer it lists all."""


class Seen(msgspec.Struct, frozen=True):
    """`kept`: set aside by the build of this very model. `later`: newer than all that the model was built from. `seen`,
    `unseen`: as it looks. `unknown`: too few lines of several items. `inside` of `looked_at` lines lie wholly in one
    session of the model.
    """

    verdict: Literal["kept", "later", "seen", "unseen", "unknown"]
    text: str
    inside: int = 0
    looked_at: int = 0

    @property
    def warns(self) -> bool:
        return self.verdict == "seen"


def seen_by(model: ModelSnapshot, questions: Questions) -> Seen:
    said, data = questions.said, model.manifest.data
    held = None if isinstance(data, msgspec.UnsetType) else data.holdout
    if said is not None and held is not None and said.sha256 == held.sha256:
        return Seen("kept", "The sessions were kept apart when this model was built: it has seen none of them.")
    ends = model.manifest.training.last_event_ms
    if said is not None and said.first_end_ms is not None and ends is not None:
        built = f"the model was built from events until {_day(ends)}"
        when = f"{built}; these sessions ended on {_day(said.first_end_ms)} or later"
        if ends < said.first_end_ms:
            return Seen("later", f"These sessions are new to the model: {when}.")
        return Seen("seen", f"The model may have seen these sessions: {when}. {_MEND}")
    return _looked_for(model, questions.lines)


_MEND = (
    "Its figures then say how well it remembers, not how well it guesses;"
    " recserv build --holdout 5% keeps the newest sessions apart, with a file of questions about them."
)


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _looked_for(model: ModelSnapshot, lines: Sequence[Line]) -> Seen:
    sets = []
    step = max(len(lines) // LINES_MAX, 1)
    for prefix, target in lines[::step]:
        known = _item_rows(model, prefix, target)
        if len(known) >= ITEMS_MIN:
            sets.append(known)
    inside = sum(_inside_one(model, known) for known in sets)
    if len(sets) < LINES_MIN:
        return Seen(
            "unknown",
            "Too few lines of several items to see whether the model knows these sessions.",
            inside,
            len(sets),
        )
    share = inside / len(sets)
    what = f"{share:.0%} of {len(sets):,} lines looked at lie wholly in one session that the model was built from"
    if share >= SEEN_SHARE:
        return Seen("seen", f"The model seems to have seen these sessions: {what}. {_MEND}", inside, len(sets))
    return Seen("unseen", f"There is no sign that the model has seen these sessions: {what}.", inside, len(sets))


def _item_rows(model: ModelSnapshot, prefix: list[str], target: str) -> list[int]:
    """Of the last items and the target, each once."""
    names = list(dict.fromkeys((target, *reversed(prefix))))[:ITEMS_MAX]
    return [item_row for name in names if (item_row := model.items.row(name)) >= 0]


def _inside_one(model: ModelSnapshot, known: list[int]) -> bool:
    listed = sorted((_sessions_of(model, item) for item in known), key=len)
    candidates = listed[0]
    for sessions in listed[1:]:
        if len(sessions) < _LISTED_MAX:
            candidates = np.intersect1d(candidates, sessions)
    wanted = np.array(known)
    offsets = model.knn_session_offsets
    return any(
        bool(np.isin(wanted, model.knn_session_items[offsets[one] : offsets[one + 1]]).all())
        for one in candidates.tolist()
    )


def _sessions_of(model: ModelSnapshot, item: int) -> npt.NDArray[np.int32]:
    return model.knn_item_sessions[model.knn_item_offsets[item] : model.knn_item_offsets[item + 1]]
