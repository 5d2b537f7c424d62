"""What a candidate source is, and how its candidates get into the table.

    Inquiry -> limit, top    -> items, best first, with scores      a request that names no candidates
            -> score         -> scores of the named candidates      a request that names its candidates
    -> CandidateTable: the source's bit on each row, its columns filled

A source belongs to one engine, keeps no state between requests, and is asked once per request: its kernel loops over
the candidates. The caller catches its exceptions (retrieve.py): its columns stay empty, and the answer is labelled.

To add a source of data that the model already has:

    recserv/pipeline/sources/NAME.py        the class: a kernel bound in __init__, `limit`, `top`, `score`
    recserv/pipeline/sources/__init__.py    the class in SOURCES
    recserv/ranking_features.py             its columns (score, its log, rank) and what they speak for
    recserv/types.py, protos/               only if answers should name it by a new public source

and of new data:

    recserv/training/NAME.py                `arrays(...)`, the trainer: from sessions to the arrays, by their names
    recserv/training/assemble.py            its stage
    recserv/model/layout.py                 the arrays, optional=True: older models do not have them

The source finds its arrays in `parts.snapshot.arrays`. Table and explanations read what they need from the class. For
`recserv eval` to switch it off or ask it alone, it needs `setting`, `alone`, and its name in commands/eval.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from recserv.pipeline.settings import PipelineSettings
from recserv.ranking_features import NO_COLUMN
from recserv.types import Source

if TYPE_CHECKING:
    from recserv._rank import CandidateTable
    from recserv._variants import Variants
    from recserv.model.snapshot import ModelSnapshot

ItemRows = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Found = tuple[ItemRows, Floats | None]
"""Distinct items, best first, with as many scores, > 0 if the source has a column for them; None if only their order
counts.
"""

ALL = -1
"""A limit: all candidates that `top` gives."""
REQUESTED = 32
"""Bit of candidates that the request names. Each source has another bit; a row has eight."""
NOTHING: Found = (np.empty(0, np.int32), None)
VARIANTS_ASKED = 8
"""Items requested from a list for each one wanted, if some are variants: as many as the lists of three items have."""


class Inquiry(msgspec.Struct, frozen=True):
    """What a request asks of the sources.

    items: int32 [n] of the context, distinct, oldest first, with weights float32 [n]; directed: the context has a
    vector, and neighbours are what the search found by it (empty if there was no search). allowed: uint8 [n of the
    catalogue], what may be recommended. category: the requested one, None for any; small: there is one, and all of its
    members are candidates. requested: int32, the distinct items that the request names, if any. extra: how many more
    candidates a long page needs from each source.
    """

    settings: PipelineSettings
    items: ItemRows
    weights: Floats
    directed: bool
    neighbours: Found
    allowed: npt.NDArray[np.uint8]
    category: int | None
    small: bool
    requested: ItemRows | None
    page_size: int
    extra: int


class CategoryMembers:
    """The available items of each category, most popular first: offsets int64 [c + 1] into items int32."""

    def __init__(self, offsets: npt.NDArray[np.int64], items: ItemRows):
        self._offsets, self._items = offsets, items

    def of(self, category: int) -> ItemRows:
        """Its available items. A view, not a copy."""
        return self._items[self._offsets[category] : self._offsets[category + 1]]

    def size(self, category: int) -> int:
        return int(self._offsets[category + 1] - self._offsets[category])


class Parts(Protocol):
    """The parts of an engine that sources are made of. A source keeps what it needs but not the engine itself: without
    reference cycles, a model is freed as soon as it is no longer served.
    """

    @property
    def snapshot(self) -> ModelSnapshot: ...
    @property
    def variants(self) -> Variants | None: ...
    @property
    def popular_head(self) -> ItemRows: ...
    @property
    def members(self) -> CategoryMembers: ...


class CandidateSource:
    """`bit`: set on the table rows that it proposed, unique to each source. `credits`: the public source that a result
    is credited to if the given part of its score (ranking_features.CONTRIBUTION_NAMES) is the largest. `knows_all`: it
    has data on every item, so it can be credited with items that only the request named. `personal`: it depends on the
    context, so its reasons can name items of the context. `setting`, `alone`: for evaluation, the setting that holds
    its limit and the feature that ranks by it alone; "": it is not evaluated separately.
    """

    bit: ClassVar[int]
    credits: ClassVar[tuple[tuple[str, Source], ...]]
    knows_all: ClassVar[bool] = False
    personal: ClassVar[bool] = True
    setting: ClassVar[str] = ""
    alone: ClassVar[str] = ""
    score_column: ClassVar[int] = NO_COLUMN
    rank_column: ClassVar[int] = NO_COLUMN

    def __init__(self, parts: Parts):
        raise NotImplementedError

    def limit(self, inquiry: Inquiry) -> int:
        """How many candidates to give: a number, ALL, or 0 if it has nothing to offer for this request."""
        raise NotImplementedError

    def top(self, inquiry: Inquiry, k: int) -> Found:
        """The best: at most k with scores, or any number in order, of which the table takes the first k allowed."""
        raise NotImplementedError

    def score(self, inquiry: Inquiry, wanted: ItemRows) -> Floats | None:
        """The score of each wanted item, 0 if it has none. None: its features are filled for every candidate anyway."""
        return None

    def fill(self, table: CandidateTable, inquiry: Inquiry) -> None:
        """Puts its candidates into the table."""
        if inquiry.requested is not None:
            scores = self.score(inquiry, inquiry.requested)
            if scores is None:
                return
            items, scores = _descending(inquiry.requested, scores)
        else:
            k = self.limit(inquiry)
            if not k:
                return
            items, scores = self.top(inquiry, k)
            if scores is None:
                table.put(items, self.bit, k)
                return
        table.add(items, scores, self.bit, self.score_column, self.rank_column)


class ContextKernel(Protocol):
    """A kernel over lists of the model: see `_candidates`."""

    def top(
        self, context: ItemRows, weights: Floats, allowed: npt.NDArray[np.uint8], k: int
    ) -> tuple[ItemRows, Floats]: ...
    def score(self, context: ItemRows, weights: Floats, wanted: ItemRows) -> Floats: ...


class ListSource(CandidateSource):
    """A source that merges lists of the context's items. Gives the best of the variants of a product."""

    def __init__(self, kernel: ContextKernel, variants: Variants | None):
        self._kernel, self._variants = kernel, variants

    def context(self, inquiry: Inquiry) -> tuple[ItemRows, Floats]:
        """The items whose lists are merged, with their weights."""
        return inquiry.items, inquiry.weights

    def top(self, inquiry: Inquiry, k: int) -> Found:
        if not len(inquiry.items):
            return NOTHING
        items, weights = self.context(inquiry)
        if self._variants is None:
            return self._kernel.top(items, weights, inquiry.allowed, k)
        found, scores = self._kernel.top(items, weights, inquiry.allowed, VARIANTS_ASKED * k)
        rows = self._variants.first(found, k)
        return found[rows], scores[rows]

    def score(self, inquiry: Inquiry, wanted: ItemRows) -> Floats | None:
        return self._kernel.score(*self.context(inquiry), wanted) if len(inquiry.items) else None


def _descending(items: ItemRows, scores: Floats) -> tuple[ItemRows, Floats]:
    order = np.lexsort((items, -scores))
    return items[order], scores[order]
