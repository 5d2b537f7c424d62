"""The protocol of a vector index over item embeddings: every backend passes the same contract suite."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

NOWHERE: npt.NDArray[np.int32] = np.empty(0, np.int32)


class VectorIndex(Protocol):
    @property
    def size(self) -> int:
        """Number of vectors. Items without one are not in the index, nor those that others stand for."""

    @property
    def dimensions(self) -> int: ...

    @property
    def bounded(self) -> bool:
        """A search is computation over resident memory, hardly more for more vectors, and it never
        waits for anything. Such an index may be searched where the event loop runs.
        """

    def search(
        self, query: npt.NDArray[np.float32], k: int, near: npt.NDArray[np.int32] = NOWHERE
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """The (at most) k nearest items by cosine similarity.

        query: float32 [dimensions], finite, of unit length. Returns item rows int32 [m] and similarities
        float32 [m], best first, ties by item row; m = min(k, size). k <= 0 gives empty arrays. Safe to call from
        several threads. Raises IndexUnavailable if the backend fails.

        `near`, int32, the newest last: the items that the query was made of, where it was. An index may look in their
        neighbourhood only, or take no notice.
        """
