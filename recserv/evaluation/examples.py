"""A few questions with what was recommended and what was chosen, for a person to look at.

Good and bad answers are both shown, in no proportion: the figures say how often, the examples say how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from recserv.evaluation.questions import Questions
from recserv.evaluation.target_kinds import TargetKinds
from recserv.types import Recommendation

if TYPE_CHECKING:
    from recserv.model.items import ItemTable

CONTEXT_SHOWN = 6
LIST_SHOWN = 10
_GOOD = 3
"""A rank up to which an answer is one of the good ones."""


class Product(msgspec.Struct, frozen=True):
    """`title` "": none is known."""

    item_id: str
    title: str = ""


class Suggested(msgspec.Struct, frozen=True):
    product: Product
    source: str
    chosen: bool


class Example(msgspec.Struct, frozen=True):
    """`context`: the last items before, oldest first; `earlier`: how many more there were. `rank` 0: not among the
    first 20. `note`: what makes the target hard to find, or "".
    """

    context: tuple[Product, ...]
    earlier: int
    suggested: tuple[Suggested, ...]
    target: Product
    rank: int
    note: str = ""


def chosen_examples(
    questions: Questions,
    ranks: npt.NDArray[np.int64],
    kinds: TargetKinds,
    items: ItemTable,
    recommend: Callable[[list[str]], Recommendation],
    count: int,
) -> tuple[Example, ...]:
    """`count` of them, of different sessions, spread over the file: half found early, the others later or not at all.
    The same ranks choose the same ones.
    """
    rows = chosen_rows(questions, ranks, count)
    return tuple(_example(questions, row, int(ranks[row]), kinds, items, recommend) for row in rows)


def chosen_rows(questions: Questions, ranks: npt.NDArray[np.int64], count: int) -> list[int]:
    """Of different sessions and different targets; found early and not so by turns."""
    fresh = ~questions.repeats()
    early = _spread(np.flatnonzero((ranks > 0) & (ranks <= _GOOD) & fresh), count - count // 2, questions, ())
    late = _spread(np.flatnonzero((ranks > _GOOD) & fresh), count // 4, questions, early)
    never = _spread(np.flatnonzero((ranks == 0) & fresh), count // 2 - len(late), questions, (*early, *late))
    rows = [row for pair in zip_longest(early, _by_turns(late, never)) for row in pair if row is not None]
    return rows + _spread(np.arange(len(ranks)), count - len(rows), questions, rows)


def _by_turns(one: list[int], other: list[int]) -> list[int]:
    return [row for pair in zip_longest(one, other) for row in pair if row is not None]


def _spread(rows: npt.NDArray[np.int64], count: int, questions: Questions, used: Sequence[int]) -> list[int]:
    """Evenly from the first to the last; of no session and no target that was used before."""
    if count <= 0 or not len(rows):
        return []
    sessions = {int(questions.session[row]) for row in used}
    targets = {questions.lines[row][1] for row in used}
    found: list[int] = []
    # More than are needed, to replace those that repeat another.
    for begin in np.unique(np.linspace(0, len(rows), count, endpoint=False).astype(np.int64)).tolist():
        for row in rows[begin:].tolist():
            session, target = int(questions.session[row]), questions.lines[row][1]
            if session not in sessions and target not in targets:
                sessions.add(session)
                targets.add(target)
                found.append(row)
                break
    return found


def _example(
    questions: Questions,
    row: int,
    rank: int,
    kinds: TargetKinds,
    items: ItemTable,
    recommend: Callable[[list[str]], Recommendation],
) -> Example:
    prefix, target = questions.lines[row]
    results = recommend(prefix).results[:LIST_SHOWN]
    note = "not in the model" if kinds.unknown[row] else "in few sessions of the model" if kinds.rare[row] else ""
    return Example(
        context=_products(items, prefix[-CONTEXT_SHOWN:]),
        earlier=max(len(prefix) - CONTEXT_SHOWN, 0),
        suggested=tuple(
            Suggested(_products(items, [one.item_id])[0], one.source.name.lower(), one.item_id == target)
            for one in results
        ),
        target=_products(items, [target])[0],
        rank=rank,
        note=note,
    )


def _products(items: ItemTable, ids: Sequence[str]) -> tuple[Product, ...]:
    found = []
    for item_id in ids:
        item_row = items.row(item_id)
        found.append(Product(item_id, items.get(item_row).title if item_row >= 0 else ""))
    return tuple(found)
