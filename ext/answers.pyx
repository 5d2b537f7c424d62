"""Whether a vector search answered what it promises. In here because it is asked of every request: half a microsecond
for forty neighbours, which several array operations of NumPy would take fifteen times as long for.
"""

from libc.math cimport isfinite
from libc.stdint cimport int32_t, uint32_t

import numpy as np

from stamps cimport next_turn


cdef class NeighbourCheck:
    """For an index over `n_items` items. One thread at a time."""

    cdef uint32_t[::1] seen
    cdef uint32_t turn

    def __init__(self, Py_ssize_t n_items):
        self.seen = np.zeros(max(n_items, 1), np.uint32)
        self.turn = 0

    def fault(self, const int32_t[::1] items not None, const float[::1] similarities not None, Py_ssize_t k):
        """What is wrong with an answer to a search for k: words, empty if nothing is.

        Right are at most k distinct item rows, a finite similarity for each, none larger than the one before
        it. Raises ValueError or TypeError for what is no pair of arrays int32 [m], float32 [m].
        """
        cdef Py_ssize_t i, n = items.shape[0]
        if similarities.shape[0] != n:
            return "not as many similarities as items"
        if n > k:
            return "more neighbours than asked for"
        self.turn = next_turn(self.seen, self.turn)
        for i in range(n):
            if not 0 <= items[i] < self.seen.shape[0]:
                return "a neighbour that is not in the model"
            if self.seen[items[i]] == self.turn:
                return "a neighbour named twice"
            self.seen[items[i]] = self.turn
            if not isfinite(similarities[i]):
                return "a similarity that is not a number"
            if i > 0 and similarities[i] > similarities[i - 1]:
                return "neighbours out of order"
        return ""
