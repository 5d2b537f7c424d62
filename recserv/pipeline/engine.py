"""The serving form of a model: kernels bound to its arrays, masks, popularity orders. One thread, the event loop's.

Everything here is derived from an immutable snapshot and can be thrown away with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recserv._candidates import Covisitation, SessionKnn
from recserv._rank import FEATURE_NAMES, CandidateTable
from recserv.errors import ModelError
from recserv.index.base import VectorIndex
from recserv.pipeline.vector_search import VectorSearch

if TYPE_CHECKING:
    from recserv.model.snapshot import ModelSnapshot

Positions = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

CATEGORY_MASKS_MAX = 32
POPULAR_HEAD = 50
NEIGHBOURS = 100
SESSIONS_PER_ITEM = 300
"""Twice as many of both cost twice the time, and changed HR@20 on a hold-out of Diginetica by less than 0.002."""
SESSION_AGE_HALF_LIFE = 0.5
"""Of the training data's span: mild, because strong recency costs accuracy (Diginetica: 2 to 5 points)."""


class Engine:
    """Binds a verified snapshot. `index` None: the vector source is missing, and answers say so."""

    def __init__(self, snapshot: ModelSnapshot, index: VectorIndex | None):
        self.snapshot = snapshot
        self.items = snapshot.items
        self.version = snapshot.version
        self.popular_only = snapshot.popular_only
        self.embeddings: npt.NDArray[np.float32] = np.ascontiguousarray(snapshot.embeddings, np.float32)
        self.search = VectorSearch(index) if index is not None and index.size else None
        self.covisitation = Covisitation(
            snapshot.covisitation_offsets, snapshot.covisitation_items, snapshot.covisitation_weights
        )
        self.session_knn = SessionKnn(
            snapshot.knn_item_offsets,
            snapshot.knn_item_sessions,
            snapshot.knn_session_offsets,
            snapshot.knn_session_items,
            session_ages(snapshot.knn_session_age),
            snapshot.knn_item_idf,
            neighbours=NEIGHBOURS,
            sessions_per_item=SESSIONS_PER_ITEM,
            age_half_life=SESSION_AGE_HALF_LIFE,
        )
        self.popularity = log_scaled(snapshot.popularity)
        self.popularity_recent = log_scaled(snapshot.popularity_recent)
        self.table = CandidateTable(self.embeddings, self.popularity, self.popularity_recent)
        self._available = np.ascontiguousarray(snapshot.available, np.uint8).copy()
        self.popular_order = descending(snapshot.popularity, first=snapshot.popular_items)
        self.trending_order = descending(snapshot.popularity_recent, first=snapshot.trending_items)
        self.popular_head = self._head()
        self.main_category = main_categories(snapshot)
        self.weights = ranker_weights(snapshot)
        self._category_masks: OrderedDict[int, npt.NDArray[np.uint8]] = OrderedDict()

    def close(self) -> None:
        if self.search is not None:
            self.search.close()

    def _head(self) -> Positions:
        """The most popular items and the most popular lately, each once, available ones only."""
        heads = [
            order[self._available[order] != 0][:POPULAR_HEAD] for order in (self.popular_order, self.trending_order)
        ]
        return np.array(list(dict.fromkeys(np.concatenate(heads).tolist())), np.int32)

    def category_items(self, category: int) -> Positions:
        """Positions of the category's items, ascending."""
        return np.flatnonzero(self._category_mask(category)).astype(np.int32)

    def category_popular(self, category: int) -> Positions:
        offsets = self.snapshot.category_popular_offsets
        listed = self.snapshot.category_popular_items[offsets[category] : offsets[category + 1]]
        return np.asarray(listed, np.int32)

    def categories_of(self, position: int) -> npt.NDArray[np.int32]:
        offsets = self.snapshot.item_category_offsets
        return np.asarray(self.snapshot.item_categories[offsets[position] : offsets[position + 1]], np.int32)

    @contextmanager
    def allowing(self, category: int | None, blocked: Positions) -> Iterator[npt.NDArray[np.uint8]]:
        """A mask uint8 [n] of the items that may be recommended: available, of the category, not blocked.

        The mask is shared and changed in place for the length of the block, which is cheaper than a copy for each
        request: no await inside.
        """
        mask = self._available if category is None else self._category_mask(category)
        before = mask[blocked]
        mask[blocked] = 0
        try:
            yield mask
        finally:
            mask[blocked] = before

    def _category_mask(self, category: int) -> npt.NDArray[np.uint8]:
        mask = self._category_masks.get(category)
        if mask is None:
            members = np.flatnonzero(np.asarray(self.snapshot.item_categories) == category)
            owners = np.searchsorted(np.asarray(self.snapshot.item_category_offsets), members, side="right") - 1
            mask = np.zeros(len(self._available), np.uint8)
            mask[owners] = self._available[owners]
            self._category_masks[category] = mask
            if len(self._category_masks) > CATEGORY_MASKS_MAX:
                self._category_masks.popitem(last=False)
        else:
            self._category_masks.move_to_end(category)
        return mask


def log_scaled(counts: Floats) -> Floats:
    """log(1 + count), scaled to 0..1 by the largest."""
    logs = np.log1p(np.maximum(np.asarray(counts, np.float32), 0.0))
    largest = float(logs.max(initial=0.0))
    return np.asarray(logs / largest if largest > 0 else logs, np.float32)


def descending(counts: Floats, first: Positions) -> Positions:
    """All positions: those listed in `first`, then the others, largest count first, ties by position."""
    order = np.argsort(-np.asarray(counts), kind="stable").astype(np.int32)
    return np.concatenate((np.asarray(first, np.int32), order[~np.isin(order, first)]))


def main_categories(snapshot: ModelSnapshot) -> Positions:
    """The most specific category of each item: int32 [n], -1 for none."""
    ends = np.asarray(snapshot.item_category_offsets[1:])
    last = np.full(len(ends), -1, np.int32)
    some = ends > np.asarray(snapshot.item_category_offsets[:-1])
    last[some] = np.asarray(snapshot.item_categories)[ends[some] - 1]
    return last


def session_ages(days: Floats) -> Floats:
    """Ages as shares of the training data's span: 0 newest, 1 oldest. Without times the order of the sessions serves,
    which are numbered from the oldest to the newest.
    """
    oldest = float(np.max(days, initial=0.0))
    if oldest > 0:
        return np.asarray(days / oldest, np.float32)
    return np.linspace(1.0, 0.0, num=len(days), dtype=np.float32)


def ranker_weights(snapshot: ModelSnapshot) -> Floats:
    """The model's weights in the order of the kernels' features; zeros where only popular items are left."""
    if snapshot.popular_only:
        return np.zeros(len(FEATURE_NAMES), np.float32)
    given = dict(zip(snapshot.ranker.names, snapshot.ranker.weights, strict=True))
    if set(given) != set(FEATURE_NAMES):
        raise ModelError("ranker.json", f"features {sorted(given)}, but this version makes {sorted(FEATURE_NAMES)}")
    return np.array([given[name] for name in FEATURE_NAMES], np.float32)
