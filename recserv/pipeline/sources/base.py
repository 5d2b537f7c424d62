"""What a source of candidates is, and how it gets into the table.

    Inquiry -> limit, top    -> items, best first, with scores      a request that is open
            -> score         -> scores of the items asked for       a request that names its candidates
    -> CandidateTable: the source's bit on each row, its columns filled

A source belongs to one engine, keeps no state between requests, and is asked once for each: the loop over candidates
is its kernel's. What it raises is caught where sources are asked (retrieve.py): its columns stay empty, and the answer
says so.

To add a source, of what the model holds already:

    recserv/pipeline/sources/NAME.py        the class: a kernel bound in __init__, `limit`, `top`, `score`
    recserv/pipeline/sources/__init__.py    the class in SOURCES
    recserv/ranking_features.py             its columns (score, its log, rank) and what they speak for
    recserv/types.py, protos/               only if answers shall call it by a new public name

and of data of its own:

    recserv/training/NAME.py                `arrays(...)`, the trainer: from sessions to the arrays, by their names
    recserv/training/assemble.py            its stage
    recserv/model/layout.py                 the arrays, optional=True: models that were built before have none

The source finds its arrays in `parts.snapshot.arrays`. The table and the explanations take from the class what they
need; to be left out or asked alone by `recserv eval` it needs `setting` and `alone`, and its name in commands/eval.py.
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
"""Items, best first, distinct; as many scores, > 0 where the source has a column for them, or None: only their order
counts.
"""

ALL = -1
"""A limit: as many as `top` gives."""
REQUESTED = 32
"""The bit of what the request itself names. A bit for each source beside it; a row has eight."""
NOTHING: Found = (np.empty(0, np.int32), None)
VARIANTS_ASKED = 8
"""Items asked of a list for each one wanted, where some are variants: as many stand in the lists of three items."""


class Inquiry(msgspec.Struct, frozen=True):
    """What a request asks of the sources.

    items: int32 [n] of the context, distinct, oldest first, with weights float32 [n]; directed: the context has a
    vector, and neighbours are what the search found by it (empty where nothing was searched). allowed: uint8 [n of
    the catalogue], what may be recommended. category: the one asked for, None for any; small: one is, and all of its
    members are candidates. requested: int32, the items that the request names, distinct, if it names any. extra: how
    many more of each source a page needs that is longer than most.
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
    """The available items of each category, the most popular first: offsets int64 [c + 1] into items int32."""

    def __init__(self, offsets: npt.NDArray[np.int64], items: ItemRows):
        self._offsets, self._items = offsets, items

    def of(self, category: int) -> ItemRows:
        """A view."""
        return self._items[self._offsets[category] : self._offsets[category + 1]]

    def size(self, category: int) -> int:
        return int(self._offsets[category + 1] - self._offsets[category])


class Parts(Protocol):
    """What an engine has to make sources of. A source keeps of it what it needs and not the engine: a model that is no
    longer served goes at once only if it is part of no cycle.
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
    """`bit`: what a row of the table has that it brought up, one of its own for each source. `credits`: the public
    source by which a result is told if that part of its score (ranking_features.CONTRIBUTION_NAMES) is the largest.
    `knows_all`: what it says of an item is known of every one, so it can be credited with those that only the request
    named. `personal`: it goes by the context, so items of the context can stand in its reasons. `setting`, `alone`: the
    setting that is its limit, and the feature that ranks by it alone, for evaluation; "": it is not told apart there.
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
        """How many candidates to give: ALL, or 0 for a request that it has nothing to say to."""
        raise NotImplementedError

    def top(self, inquiry: Inquiry, k: int) -> Found:
        """Its best, at most k if it scores them; in an order without scores the table takes the first k allowed."""
        raise NotImplementedError

    def score(self, inquiry: Inquiry, wanted: ItemRows) -> Floats | None:
        """Of each wanted item, 0 where it says nothing of it. None: its features are filled for every candidate."""
        return None

    def fill(self, table: CandidateTable, inquiry: Inquiry) -> None:
        """Its candidates into the table."""
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
    """A source that goes through lists of the context's items. Of the variants of a product it names the best."""

    def __init__(self, kernel: ContextKernel, variants: Variants | None):
        self._kernel, self._variants = kernel, variants

    def context(self, inquiry: Inquiry) -> tuple[ItemRows, Floats]:
        """The items that it goes by, with their weights."""
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
