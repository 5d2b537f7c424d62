"""The neighbours of a few items, which stand in lists, in the order of their similarity to a query.

A graph search reads some hundred vectors that it finds one after the other, each where the one before it points; here
all candidates are known at once and their vectors are fetched ahead.
"""

from libc.stdint cimport int32_t, uint32_t

import numpy as np

from stamps cimport next_turn
from topk cimport finish, offer
from vectors cimport gathered_dots


cdef class ListedNeighbours:
    """embeddings: float32 [n, d], rows of unit length or zero; lists: int32 [n, w], the neighbours of each item, nearest first,
    filled up with -1; of `items_max` items at once. Raises ValueError. Holds the interpreter lock, so threads may share it.
    """

    cdef const float[:, ::1] embeddings
    cdef const int32_t[:, ::1] lists
    cdef uint32_t[::1] seen
    cdef uint32_t turn
    cdef int32_t[::1] candidates
    cdef float[::1] similarities
    cdef Py_ssize_t items_max
    cdef readonly Py_ssize_t width

    def __init__(
        self, const float[:, ::1] embeddings not None, const int32_t[:, ::1] lists not None, Py_ssize_t items_max
    ):
        n = embeddings.shape[0]
        values = np.asarray(lists)
        if lists.shape[0] != n or (n and not embeddings.shape[1]):
            raise ValueError("a vector and a list for each item")
        if items_max < 1:
            raise ValueError(f"items_max must be positive, not {items_max}")
        if values.min(initial=-1) < -1 or values.max(initial=-1) >= n:
            raise ValueError("lists: a neighbour that is not in the model")
        self.embeddings, self.lists, self.items_max = embeddings, lists, items_max
        self.width = lists.shape[1]
        self.seen = np.zeros(max(n, 1), np.uint32)
        self.turn = 0
        self.candidates = np.empty(max(items_max * self.width, 1), np.int32)
        self.similarities = np.empty(max(items_max * self.width, 1), np.float32)

    def nearest(self, const float[::1] query not None, const int32_t[::1] items not None, Py_ssize_t k):
        """Of all that stand in the lists of `items` (int32 [m]; the last `items_max` are looked at) the k most similar to
        `query` (float32 [d]): item rows int32 [k], cosines float32 [k], best first, ties by item row. None if the lists
        hold fewer. Raises ValueError or IndexError.
        """
        cdef Py_ssize_t i, p, count = 0, size = 0, m = items.shape[0]
        cdef int32_t item
        if query.shape[0] != self.embeddings.shape[1]:
            raise ValueError(f"the query has {query.shape[0]} dimensions, the vectors {self.embeddings.shape[1]}")
        self.turn = next_turn(self.seen, self.turn)
        for i in range(max(m - self.items_max, 0), m):
            if not 0 <= items[i] < self.lists.shape[0]:
                raise IndexError(f"item {items[i]} is not in the model")
            for p in range(self.width):
                item = self.lists[items[i], p]
                if item < 0:
                    break
                if self.seen[item] != self.turn:
                    self.seen[item] = self.turn
                    self.candidates[count] = item
                    count += 1
        if k <= 0 or count < k:
            return None
        gathered_dots(
            &self.embeddings[0, 0], &self.candidates[0], count, &query[0], query.shape[0], &self.similarities[0]
        )
        item_rows = np.empty(k, np.int32)
        cosines = np.empty(k, np.float32)
        cdef int32_t[::1] at = item_rows
        cdef float[::1] near = cosines
        for p in range(count):
            size = offer(&near[0], &at[0], size, k, self.similarities[p], self.candidates[p])
        finish(&near[0], &at[0], size)
        return (item_rows, cosines) if size == k else None
