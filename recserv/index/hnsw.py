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

from recserv.errors import IndexUnavailable

GRAPH_DEGREE = 16
EF_CONSTRUCTION = 120
SEED = 100


def build(embeddings: npt.NDArray[np.float32], path: Path, *, ef_construction: int = EF_CONSTRUCTION) -> int:
    """Writes a graph over the non-zero rows (float32 [n, d], unit length) of embeddings; labels are row numbers.

    One thread inserts in row order, so that the same vectors give the same bytes. Returns the number of vectors.
    """
    rows = np.flatnonzero((embeddings != 0).any(axis=1))
    if not np.isfinite(embeddings).all():
        raise IndexUnavailable("embeddings must be finite: a NaN would corrupt the graph without a word")
    graph = hnswlib.Index(space="ip", dim=embeddings.shape[1])
    graph.init_index(max_elements=max(len(rows), 1), M=GRAPH_DEGREE, ef_construction=ef_construction, random_seed=SEED)
    if len(rows):
        graph.add_items(embeddings[rows], rows, num_threads=1)
    graph.save_index(str(path))
    return len(rows)


class HnswIndex:
    """See `recserv.index.base.VectorIndex`."""

    def __init__(self, graph: hnswlib.Index, ef: int):
        self._graph = graph
        self._ef = ef
        graph.set_ef(ef)
        graph.set_num_threads(1)

    @classmethod
    def load(cls, path: Path, *, dimensions: int, ef: int = 64) -> HnswIndex:
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

    def search(self, query: npt.NDArray[np.float32], k: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        k = min(k, self.size)
        if k <= 0:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        if k > self._ef:
            self._ef = k
            self._graph.set_ef(k)
        labels, distances = self._query(query.reshape(1, -1), k)
        positions = labels[0].astype(np.int32)
        similarities = 1.0 - distances[0]
        if (similarities[1:] != similarities[:-1]).all():
            return positions, similarities
        order = np.lexsort((positions, -similarities))
        return positions[order], similarities[order]

    def _query(self, query: npt.NDArray[np.float32], k: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
        # hnswlib raises instead of returning fewer than k, which a graph with many equal vectors can make it do.
        while True:
            try:
                return self._graph.knn_query(query, k=k, num_threads=1)  # type: ignore[no-any-return]
            except RuntimeError as error:
                if k == 1:
                    raise IndexUnavailable(f"search failed: {error}") from error
                k //= 2
