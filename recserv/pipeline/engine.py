"""The serving form of a model: kernels bound to its arrays, masks, popularity orders. Used on the event loop only.

Everything here is derived from an immutable snapshot and dropped with it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recserv._answers import NeighbourCheck
from recserv._codec import ItemLookup
from recserv._rank import CandidateTable, linear_scorer
from recserv._variants import Variants
from recserv.index.base import VectorIndex
from recserv.pipeline.ranker import Ranker
from recserv.pipeline.scoring import COLD_WEIGHTS, PLAIN_WEIGHTS, scorer_of
from recserv.pipeline.side_thread import SideThread
from recserv.pipeline.sources import SOURCES
from recserv.pipeline.sources.base import CandidateSource, CategoryMembers
from recserv.pipeline.sources.covisitation import Covisitation
from recserv.pipeline.vector_search import VectorSearch
from recserv.pipeline.word_search import WordSearch
from recserv.resilience.deadline import MonotonicClock

if TYPE_CHECKING:
    from recserv.model.snapshot import ModelSnapshot

ItemRows = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

CATEGORY_MASKS_MAX = 32
CATEGORY_MASKS_BYTES_MAX = 64 * 1024 * 1024
"""One byte for each item of the catalogue."""
POPULAR_HEAD = 50


class Engine:
    """Binds a verified snapshot. `index` None: there is no vector source, and answers say so. `ranker` None: the
    model's own.
    """

    def __init__(
        self,
        snapshot: ModelSnapshot,
        index: VectorIndex | None,
        ranker: Ranker | None = None,
        *,
        clock: MonotonicClock = time.monotonic,
    ):
        self.snapshot = snapshot
        self.items = snapshot.items
        self.version = snapshot.version
        self.popular_only = snapshot.popular_only
        self.embeddings: npt.NDArray[np.float32] = np.ascontiguousarray(snapshot.embeddings, np.float32)
        self.search = VectorSearch(index, clock=clock) if index is not None and index.size else None
        self.word_search = WordSearch(snapshot)
        self.neighbour_check = NeighbourCheck(len(self.embeddings))
        self.ranker = ranker
        self.ranker_thread = SideThread("recserv-ranker", clock=clock)
        self.popularity = log_scaled(snapshot.popularity)
        self.popularity_recent = log_scaled(snapshot.popularity_recent)
        self.importance: Floats = np.ascontiguousarray(snapshot.item_importance, np.float32)
        self.position_weights: Floats = np.ascontiguousarray(snapshot.position_weights, np.float32)
        if not len(self.position_weights):  # only popular items are left of this model
            self.position_weights = np.ones(1, np.float32)
        self.oldest_position_weight = float(self.position_weights[-1])
        self.main_category = main_categories(snapshot)
        self.table = CandidateTable(
            self.embeddings,
            self.popularity,
            self.popularity_recent,
            self.importance,
            self.main_category,
            snapshot.covisitation_offsets,
            snapshot.covisitation_items,
            snapshot.covisitation_weights,
        )
        self.variants = Variants(snapshot.item_groups) if len(snapshot.item_groups) else None
        """None if no item of this model is a variant of another."""
        self._available = np.ascontiguousarray(snapshot.available, np.uint8).copy()
        self.popular_order = self._in_stock(descending(snapshot.popularity, first=snapshot.popular_items))
        self.trending_order = self._in_stock(descending(snapshot.popularity_recent, first=snapshot.trending_items))
        self.members = members_by_popularity(snapshot, self.popular_order)
        self.popular_head = self._head()
        self.sources: tuple[CandidateSource, ...] = tuple(kind(self) for kind in SOURCES)
        """The sources, in the order in which they are asked."""
        self.covisitation = next(source for source in self.sources if isinstance(source, Covisitation))
        self.scorer = scorer_of(snapshot)
        self.plain_scorer = linear_scorer(PLAIN_WEIGHTS)
        self.cold_scorer = linear_scorer(COLD_WEIGHTS)
        self.nothing = np.zeros(len(self._available), np.uint8)
        self._category_masks: OrderedDict[int, npt.NDArray[np.uint8]] = OrderedDict()

    def close(self) -> None:
        self.ranker_thread.close()
        if self.search is not None:
            self.search.close()

    @cached_property
    def lookup(self) -> ItemLookup:
        """Item rows by id as bytes, for packed sessions. Stores that keep structs do not need it."""
        return ItemLookup(self.items.ids)

    def _head(self) -> ItemRows:
        """The most popular items overall and lately, each once: available ones, and one variant of each product."""
        heads = [self._first(order, POPULAR_HEAD) for order in (self.popular_order, self.trending_order)]
        return np.array(list(dict.fromkeys(np.concatenate(heads).tolist())), np.int32)

    def _first(self, order: ItemRows, count: int) -> ItemRows:
        return order[:count] if self.variants is None else order[self.variants.first(order, count)]

    def _in_stock(self, order: ItemRows) -> ItemRows:
        return np.asarray(order[self._available[order] != 0], np.int32)

    def category_items(self, category: int) -> ItemRows:
        """Rows of the category's available items, most popular first. A view, not a copy."""
        return self.members.of(category)

    def category_size(self, category: int) -> int:
        """The number of its available items; 0 for -1."""
        return self.members.size(category) if category >= 0 else 0

    def lacks(self, category: str) -> bool:
        """Whether the model does not know the category. With a damaged model no category is known, and none missing."""
        return bool(category) and not self.popular_only and self.snapshot.category_number(category) < 0

    def categories_of(self, item_row: int) -> npt.NDArray[np.int32]:
        offsets = self.snapshot.item_category_offsets
        return np.asarray(self.snapshot.item_categories[offsets[item_row] : offsets[item_row + 1]], np.int32)

    @contextmanager
    def allowing(self, category: int | None, blocked: ItemRows) -> Iterator[npt.NDArray[np.uint8]]:
        """A mask uint8 [n] of the items that may be recommended: available, in the category, not blocked.

        The mask is shared and modified in place while the `with` block runs, which is cheaper than a copy for each
        request. So do not await inside.
        """
        mask = self._available if category is None else self._category_mask(category)
        if not len(blocked):
            yield mask
            return
        before = mask[blocked]
        mask[blocked] = 0
        try:
            yield mask
        finally:
            mask[blocked] = before

    def _category_mask(self, category: int) -> npt.NDArray[np.uint8]:
        mask = self._category_masks.get(category)
        if mask is None:
            mask = np.zeros(len(self._available), np.uint8)
            mask[self.category_items(category)] = 1
            self._category_masks[category] = mask
            if len(self._category_masks) > max(1, min(CATEGORY_MASKS_MAX, CATEGORY_MASKS_BYTES_MAX // len(mask))):
                self._category_masks.popitem(last=False)
        else:
            self._category_masks.move_to_end(category)
        return mask


def log_scaled(counts: Floats) -> Floats:
    """log(1 + count), divided by the largest such value."""
    logs = np.log1p(np.maximum(np.asarray(counts, np.float32), 0.0))
    largest = float(logs.max(initial=0.0))
    return np.asarray(logs / largest if largest > 0 else logs, np.float32)


def descending(counts: Floats, first: ItemRows) -> ItemRows:
    """All item rows: those in `first`, then the others by falling count, ties by item row."""
    order = np.argsort(-np.asarray(counts), kind="stable").astype(np.int32)
    return np.concatenate((np.asarray(first, np.int32), order[~np.isin(order, first)]))


def members_by_popularity(snapshot: ModelSnapshot, order: ItemRows) -> CategoryMembers:
    """The items of each category that are in `order` (int32, distinct), in that order. Computed once, so that requests
    need not scan the catalogue for the few items of a category.
    """
    count = snapshot.item_count
    place = np.full(count, -1, np.int64)
    place[order] = np.arange(len(order))
    owners = np.repeat(np.arange(count), np.diff(snapshot.item_category_offsets))
    listed = place[owners] >= 0
    keys = np.unique(np.asarray(snapshot.item_categories)[listed] * np.int64(count) + place[owners[listed]])
    categories = np.arange(len(snapshot.category_names) + 1, dtype=np.int64)
    return CategoryMembers(np.searchsorted(keys, categories * count), order[keys % count])


def main_categories(snapshot: ModelSnapshot) -> npt.NDArray[np.int32]:
    """The most specific category of each item: int32 [n], -1 for none."""
    ends = np.asarray(snapshot.item_category_offsets[1:])
    last = np.full(len(ends), -1, np.int32)
    some = ends > np.asarray(snapshot.item_category_offsets[:-1])
    last[some] = np.asarray(snapshot.item_categories)[ends[some] - 1]
    return last
