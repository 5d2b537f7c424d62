"""Ranking: the candidates of all sources in one table, a row of features each, a score, the best k.

    CandidateTable   merges the sources' lists; a candidate is one row, whichever sources named it
    features         float32 [m, FEATURES], columns as in FEATURE_NAMES
    linear scorer    features x weights
    top_k            best first; ties by item position; NaN never

Source scores are scaled by the largest of the request, because sums over a context of any length are not comparable
from one request to the next. Popularity enters as a logarithm, scaled to 0..1 by the model's largest.
"""

from libc.stdint cimport int32_t, uint8_t

import numpy as np

from prefetch cimport prefetch
from topk cimport offer, worse

FEATURE_NAMES = ("context_cosine", "covisitation", "session_knn", "popularity", "popularity_recent", "in_session")

cdef enum:
    COSINE = 0
    COVISITATION = 1
    SESSION_KNN = 2
    POPULARITY = 3
    POPULARITY_RECENT = 4
    IN_SESSION = 5
    FEATURES = 6
    AHEAD = 8
    FLOATS_PER_LINE = 16


cdef inline void prefetch_row(const float* row, Py_ssize_t d) noexcept nogil:
    cdef Py_ssize_t c = 0
    while c < d:
        prefetch(row + c)
        c += FLOATS_PER_LINE


cdef float dot(const float* a, const float* b, Py_ssize_t d) noexcept nogil:
    cdef Py_ssize_t c
    cdef float s0 = 0.0, s1 = 0.0, s2 = 0.0, s3 = 0.0
    c = 0
    # Four sums, because strict floating point forbids the compiler to reorder one.
    while c + 4 <= d:
        s0 += a[c] * b[c]
        s1 += a[c + 1] * b[c + 1]
        s2 += a[c + 2] * b[c + 2]
        s3 += a[c + 3] * b[c + 3]
        c += 4
    while c < d:
        s0 += a[c] * b[c]
        c += 1
    return (s0 + s1) + (s2 + s3)


cdef void scale_column(float* features, Py_ssize_t m, Py_ssize_t column) noexcept nogil:
    cdef Py_ssize_t r
    cdef float largest = 0.0
    for r in range(m):
        if features[r * FEATURES + column] > largest:
            largest = features[r * FEATURES + column]
    if largest > 0.0:
        for r in range(m):
            features[r * FEATURES + column] /= largest


cdef class CandidateTable:
    """Merges candidate lists, then turns them into features.

    embeddings: float32 [n, d]; popularity, popularity_recent: float32 [n] in 0..1. One thread at a time; the calls of
    one request must not be interleaved with another's: begin, add..., features.
    """

    cdef const float[:, ::1] embeddings
    cdef const float[::1] popularity
    cdef const float[::1] popularity_recent
    cdef int32_t[::1] row_of
    cdef int32_t[::1] rows
    cdef float[:, ::1] table
    cdef Py_ssize_t count, capacity

    def __init__(
        self, const float[:, ::1] embeddings, const float[::1] popularity, const float[::1] popularity_recent,
        Py_ssize_t capacity=2048,
    ):
        cdef Py_ssize_t n = embeddings.shape[0]
        if popularity.shape[0] != n or popularity_recent.shape[0] != n:
            raise ValueError("popularity: one value for each item")
        self.embeddings, self.popularity, self.popularity_recent = embeddings, popularity, popularity_recent
        self.row_of = np.full(max(n, 1), -1, np.int32)
        self.capacity = capacity
        self.rows = np.empty(capacity, np.int32)
        self.table = np.zeros((capacity, FEATURES), np.float32)
        self.count = 0

    def begin(self):
        """Empties the table."""
        cdef Py_ssize_t r, f
        for r in range(self.count):
            self.row_of[self.rows[r]] = -1
            for f in range(FEATURES):
                self.table[r, f] = 0.0
        self.count = 0

    def add(self, const int32_t[::1] items, const float[::1] scores, Py_ssize_t column, bint only_known=False):
        """Puts scores (larger than 0 or not at all) into a column; items that are new become rows, unless `only_known`
        or the table is full. Returns how many rows there are.
        """
        cdef Py_ssize_t i, r
        cdef int32_t item
        if items.shape[0] != scores.shape[0]:
            raise ValueError("as many scores as items")
        if not 0 <= column < FEATURES:
            raise ValueError(f"no column {column}")
        for i in range(items.shape[0]):
            item = items[i]
            if not 0 <= item < self.embeddings.shape[0]:
                raise IndexError(f"item {item} is not in the model")
            r = self.row_of[item]
            if r < 0:
                if only_known or self.count == self.capacity:
                    continue
                r = self.count
                self.row_of[item] = <int32_t>r
                self.rows[r] = item
                self.count += 1
            if scores[i] > self.table[r, column]:
                self.table[r, column] = scores[i]
        return self.count

    def features(self, const float[::1] context, const int32_t[::1] session):
        """Completes the rows: exact cosine with the context vector (float32 [d]; all zero: none), popularity, and whether
        the item is in the session (int32 positions).

        Returns copies: items int32 [m], features float32 [m, 6].
        """
        cdef Py_ssize_t r, i, m = self.count, d = self.embeddings.shape[1]
        cdef int32_t item
        if context.shape[0] != d:
            raise ValueError(f"the context has {context.shape[0]} dimensions, the model {d}")
        if m == 0:
            return np.empty(0, np.int32), np.empty((0, FEATURES), np.float32)
        for i in range(session.shape[0]):
            item = session[i]
            if 0 <= item < self.embeddings.shape[0] and self.row_of[item] >= 0:
                self.table[self.row_of[item], IN_SESSION] = 1.0
        for r in range(m):
            if r + AHEAD < m:
                prefetch_row(&self.embeddings[self.rows[r + AHEAD], 0] if d else NULL, d)
                prefetch(&self.popularity[self.rows[r + AHEAD]])
                prefetch(&self.popularity_recent[self.rows[r + AHEAD]])
            item = self.rows[r]
            self.table[r, COSINE] = dot(&self.embeddings[item, 0], &context[0], d) if d else 0.0
            self.table[r, POPULARITY] = self.popularity[item]
            self.table[r, POPULARITY_RECENT] = self.popularity_recent[item]
        scale_column(&self.table[0, 0], m, COVISITATION)
        scale_column(&self.table[0, 0], m, SESSION_KNN)
        return np.array(self.rows[:m]), np.array(self.table[:m])


def linear(const float[:, ::1] features, const float[::1] weights):
    """Scores float32 [m] = features [m, f] x weights [f]."""
    cdef Py_ssize_t r, f, m = features.shape[0]
    cdef float s
    if features.shape[1] != weights.shape[0]:
        raise ValueError(f"{features.shape[1]} features but {weights.shape[0]} weights")
    scores = np.empty(m, np.float32)
    cdef float[::1] view = scores
    for r in range(m):
        s = 0.0
        for f in range(features.shape[1]):
            s += features[r, f] * weights[f]
        view[r] = s
    return scores


cdef void collect(
    const int32_t* items, const float* scores, Py_ssize_t m, float last_score, int32_t last_item, int32_t* rows,
    Py_ssize_t size,
) noexcept nogil:
    """The rows that are no worse than the last one of the k best, sorted by insertion (there are at most k)."""
    cdef Py_ssize_t r, slot, taken = 0
    for r in range(m):
        if taken == size:
            break
        if scores[r] != scores[r] or worse(scores[r], items[r], last_score, last_item):
            continue
        slot = taken
        while slot > 0 and worse(scores[rows[slot - 1]], items[rows[slot - 1]], scores[r], items[r]):
            rows[slot] = rows[slot - 1]
            slot -= 1
        rows[slot] = <int32_t>r
        taken += 1


def top_k(const int32_t[::1] items, const float[::1] scores, Py_ssize_t k):
    """Row numbers of the k best, best first: int32 [min(k, rows without NaN)]. Equal scores by lower item position.

    items int32 [m], distinct; scores float32 [m].
    """
    cdef Py_ssize_t r, size = 0, m = items.shape[0]
    if scores.shape[0] != m:
        raise ValueError("as many scores as items")
    k = min(k, m)
    if k <= 0:
        return np.empty(0, np.int32)
    cdef int32_t[::1] heap_items = np.empty(k, np.int32)
    cdef float[::1] heap_scores = np.empty(k, np.float32)
    for r in range(m):
        size = offer(&heap_scores[0], &heap_items[0], size, k, scores[r], items[r])
    rows = np.empty(size, np.int32)
    cdef int32_t[::1] view = rows
    if size:
        collect(&items[0], &scores[0], m, heap_scores[0], heap_items[0], &view[0], size)
    return rows
