"""Exact search by one matrix product: the reference in tests, and good enough for a few thousand items."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recserv.errors import IndexUnavailable
from recserv.index.base import NOWHERE


class ExactIndex:
    """See `recserv.index.base.VectorIndex`. embeddings: float32 [n, d], unit or zero rows; zero rows are left out."""

    def __init__(self, embeddings: npt.NDArray[np.float32]):
        if embeddings.ndim != 2 or not np.isfinite(embeddings).all():
            raise IndexUnavailable("embeddings must be a finite matrix")
        self._item_rows = np.flatnonzero((embeddings != 0).any(axis=1)).astype(np.int32)
        self._vectors = np.ascontiguousarray(embeddings[self._item_rows], dtype=np.float32)

    @property
    def size(self) -> int:
        return len(self._item_rows)

    @property
    def dimensions(self) -> int:
        return int(self._vectors.shape[1])

    @property
    def bounded(self) -> bool:
        return False

    def search(
        self, query: npt.NDArray[np.float32], k: int, near: npt.NDArray[np.int32] = NOWHERE
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        k = min(k, self.size)
        if k <= 0:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        similarities = self._vectors @ query
        best = np.lexsort((self._item_rows, -similarities))[:k]
        return self._item_rows[best], similarities[best].astype(np.float32)
