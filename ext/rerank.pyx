"""Re-ranking for diversity: maximal marginal relevance (Carbonell & Goldstein 1998) over item embeddings.

    next = argmax (1 - diversity) x relevance - diversity x (largest cosine to what is already chosen)

Relevance is scaled to 0..1 over the candidates, so that `diversity` means the same in every request.
"""

from libc.stdint cimport int32_t, uint8_t

import numpy as np


cdef float cosine(const float* a, const float* b, Py_ssize_t d) noexcept nogil:
    cdef Py_ssize_t c
    cdef float s = 0.0
    for c in range(d):
        s += a[c] * b[c]
    return s


def diversify(
    const int32_t[::1] items, const float[::1] scores, const float[:, ::1] embeddings, float diversity, Py_ssize_t k
):
    """Row numbers of k candidates, int32 [min(k, m)], in the order chosen.

    items int32 [m], distinct rows of embeddings (unit length or zero); scores float32 [m], finite; diversity 0..1. Ties go to
    the row that comes first. O(k x m x d).
    """
    cdef Py_ssize_t m = items.shape[0], d = embeddings.shape[1]
    cdef Py_ssize_t i, r, best
    cdef float low, high, value, most, near
    if scores.shape[0] != m:
        raise ValueError("as many scores as items")
    if not 0.0 <= diversity <= 1.0:
        raise ValueError("diversity must be in 0..1")
    for r in range(m):
        if not 0 <= items[r] < embeddings.shape[0]:
            raise IndexError(f"item {items[r]} has no row")
        if scores[r] - scores[r] != 0.0:
            raise ValueError("scores must be finite")
    k = min(k, m)
    if k <= 0:
        return np.empty(0, np.int32)
    rows = np.empty(k, np.int32)
    cdef int32_t[::1] view = rows
    cdef float[::1] relevance = np.empty(m, np.float32)
    # Cosine is at least -1: so nothing chosen yet means no penalty differs from another.
    cdef float[::1] nearest = np.full(m, -1.0, np.float32)
    cdef uint8_t[::1] taken = np.zeros(m, np.uint8)
    low = high = scores[0]
    for r in range(m):
        low = min(low, scores[r])
        high = max(high, scores[r])
    for r in range(m):
        relevance[r] = (scores[r] - low) / (high - low) if high > low else 1.0
    for i in range(k):
        best = -1
        most = 0.0
        for r in range(m):
            if not taken[r]:
                value = (1.0 - diversity) * relevance[r] - diversity * nearest[r]
                if best < 0 or value > most:
                    best = r
                    most = value
        taken[best] = 1
        view[i] = <int32_t>best
        for r in range(m):
            if not taken[r] and d:
                near = cosine(&embeddings[items[r], 0], &embeddings[items[best], 0], d)
                if near > nearest[r]:
                    nearest[r] = near
    return rows
