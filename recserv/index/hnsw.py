"""Approximate search in an immutable HNSW graph (Malkov & Yashunin 2016), by hnswlib's Python API.

hnswlib's file has neither magic nor checksum, and its loader trusts what it reads: `load` must only see files whose
SHA-256 was verified. Vectors are of unit length, so the inner product is the cosine and nothing is normalised twice.
The graph is never written to after the load: a search beside an insert is unsafe in hnswlib.
"""

from __future__ import annotations

from pathlib import Path

import hnswlib
import numpy as np
import numpy.typing as npt

from recserv._neighbours import ordered_neighbours
from recserv.errors import IndexUnavailable
from recserv.index.base import NOWHERE

GRAPH_DEGREE = 16
EF_CONSTRUCTION = 80
"""120 takes half as long again; of the 40 nearest in Diginetica's space a search then finds .997 instead of .996."""
SEED = 100
_ROWS_AT_ONCE = 4096


class Graph:
    """A graph in the making: built, asked for neighbours, saved."""

    def __init__(
        self,
        embeddings: npt.NDArray[np.float32],
        *,
        rows: npt.NDArray[np.int64] | None = None,
        ef_construction: int = EF_CONSTRUCTION,
    ):
        """Over the non-zero rows (float32 [n, d], unit length) of embeddings, or those of them that `rows` names,
        ascending; labels are row numbers.

        One thread inserts in row order, so that the same vectors give the same bytes.
        """
        if not np.isfinite(embeddings).all():
            raise IndexUnavailable("embeddings must be finite: a NaN would corrupt the graph without a word")
        self._embeddings = embeddings
        self._with_vector = np.flatnonzero((embeddings != 0).any(axis=1))
        self.rows = self._with_vector if rows is None else rows
        self._graph = hnswlib.Index(space="ip", dim=embeddings.shape[1])
        self._graph.init_index(
            max_elements=max(len(self.rows), 1), M=GRAPH_DEGREE, ef_construction=ef_construction, random_seed=SEED
        )
        if len(self.rows):
            self._graph.add_items(embeddings[self.rows], self.rows, num_threads=1)

    def save(self, path: Path) -> None:
        self._graph.save_index(str(path))

    def neighbours(self, width: int) -> npt.NDArray[np.int32]:
        """Of every row the nearest in the graph and itself: int32 [n, width], nearest first, ties by item row, a row
        that is not in the graph before all others; filled up with -1; a zero row has none.
        """
        lists = np.full((len(self._embeddings), width), -1, np.int32)
        wanted = min(width, len(self.rows))
        self._graph.set_ef(max(wanted, 1))
        for begin in range(0, len(self._with_vector) if wanted else 0, _ROWS_AT_ONCE):
            rows = self._with_vector[begin : begin + _ROWS_AT_ONCE]
            try:
                labels, distances = self._graph.knn_query(self._embeddings[rows], k=wanted, num_threads=-1)
            except RuntimeError:
                self._one_by_one(rows, lists)
                continue
            lists[rows, :wanted] = np.take_along_axis(labels, np.lexsort((labels, distances), axis=1), axis=1)
        outside = np.setdiff1d(self._with_vector, self.rows)
        if wanted and len(outside):
            lists[outside, 1:] = lists[outside, :-1]
            lists[outside, 0] = outside
        return lists

    def _one_by_one(self, rows: npt.NDArray[np.int64], lists: npt.NDArray[np.int32]) -> None:
        """Where a search finds fewer than it should, which a graph with many equal vectors can make it do."""
        index = HnswIndex(self._graph, lists.shape[1])
        for row in rows.tolist():
            found, _ = index.search(self._embeddings[row], lists.shape[1])
            lists[row, : len(found)] = found


class HnswIndex:
    """See `recserv.index.base.VectorIndex`.

    The width that is set holds for every search and every thread. It is set once: hnswlib itself takes k where that is
    more, for that search alone.
    """

    def __init__(self, graph: hnswlib.Index, ef: int):
        self._graph = graph
        graph.set_ef(ef)
        graph.set_num_threads(1)

    @classmethod
    def load(cls, path: Path, *, dimensions: int, ef: int = 48) -> HnswIndex:
        """Opens a verified file. `ef` is the width of the search: recall against time; it is not stored in the file."""
        try:
            graph = hnswlib.Index(space="ip", dim=dimensions)
            graph.load_index(str(path))
        except Exception as error:
            raise IndexUnavailable(f"{path.name}: {error}") from error
        return cls(graph, ef)

    @property
    def size(self) -> int:
        return int(self._graph.get_current_count())

    @property
    def dimensions(self) -> int:
        return int(self._graph.dim)

    @property
    def bounded(self) -> bool:
        return True

    def search(
        self, query: npt.NDArray[np.float32], k: int, near: npt.NDArray[np.int32] = NOWHERE
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        k = min(k, self.size)
        if k <= 0:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        return ordered_neighbours(*self._query(query, k))

    def _query(self, query: npt.NDArray[np.float32], k: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
        # hnswlib raises instead of returning fewer than k, which a graph with many equal vectors can make it do.
        while True:
            try:
                return self._graph.knn_query(query, k=k, num_threads=1)  # type: ignore[no-any-return]
            except RuntimeError as error:
                if k == 1:
                    raise IndexUnavailable(f"search failed: {error}") from error
                k //= 2
