"""Context aggregation: events -> a weight for each, and one vector of unit length for all.

    weight = type weight x 2^(-age / half-life) x weight of its place, by how many events came after it

A view says less than a purchase, an old event less than a new one; in a short session the order says more than the
clock, so both decay. Type weights may be negative (a dislike pushes the vector away). The NumPy twins stand in
tests/ext/oracles.py.
"""

from libc.math cimport exp2f, sqrtf
from libc.stdint cimport int32_t, uint8_t

import numpy as np


cdef void event_weights(
    const uint8_t* kinds, const float* ages_s, Py_ssize_t n, const float* type_weights,
    float half_life_s, const float* places, Py_ssize_t n_places, float* out,
) noexcept nogil:
    cdef Py_ssize_t j, after
    for j in range(n):
        after = n - 1 - j
        if after >= n_places:
            after = n_places - 1
        out[j] = type_weights[kinds[j]] * exp2f(-ages_s[j] / half_life_s) * places[after]


cdef float aggregate_vector(
    const int32_t* items, const float* weights, Py_ssize_t n, const float* importance, const float* embeddings,
    Py_ssize_t d, float* out,
) noexcept nogil:
    """Adds to what `out` holds, then brings it to unit length."""
    cdef Py_ssize_t j, c
    cdef const float* row
    cdef float w, norm = 0.0
    for j in range(n):
        w = weights[j] * importance[items[j]]
        row = embeddings + <Py_ssize_t>items[j] * d
        for c in range(d):
            out[c] += w * row[c]
    for c in range(d):
        norm += out[c] * out[c]
    norm = sqrtf(norm)
    if norm > 1e-12:
        for c in range(d):
            out[c] /= norm
        return norm
    for c in range(d):
        out[c] = 0.0
    return 0.0


def weigh(
    const uint8_t[::1] kinds, const float[::1] ages_s, const float[::1] type_weights, float half_life_s,
    const float[::1] places,
):
    """Weights of n events, oldest first.

    kinds: uint8 [n], indices of type_weights; ages_s: float32 [n], seconds, not negative; half_life_s > 0; places:
    float32 [p], newest first, the last one holds for all older events.
    Returns float32 [n]. Raises ValueError if lengths differ or a kind has no weight.
    """
    cdef Py_ssize_t n = kinds.shape[0]
    cdef Py_ssize_t j
    if ages_s.shape[0] != n:
        raise ValueError(f"{n} kinds but {ages_s.shape[0]} ages")
    if not half_life_s > 0 or places.shape[0] == 0:
        raise ValueError("half_life_s must be positive, and there must be a weight for the newest place")
    for j in range(n):
        if kinds[j] >= type_weights.shape[0]:
            raise ValueError(f"no weight for kind {kinds[j]}")
    out = np.empty(n, np.float32)
    cdef float[::1] view = out
    if n:
        event_weights(&kinds[0], &ages_s[0], n, &type_weights[0], half_life_s, &places[0],
                      places.shape[0], &view[0])
    return out


def aggregate(
    const int32_t[::1] items, const float[::1] weights, const float[::1] importance, const float[:, ::1] embeddings,
    const float[::1] beside=None,
):
    """The weighted sum of the items' vectors and of what stands beside them, of unit length.

    items: int32 [n], rows of embeddings, may repeat; weights: float32 [n], multiplied by the item's importance
    (float32, one a row); beside: float32 [d], such as the vector of a search, already weighted. Returns float32 [d]: all zero if
    nothing is left to point anywhere. Raises ValueError if lengths differ, IndexError if an item has no row.
    """
    cdef Py_ssize_t n = items.shape[0]
    cdef Py_ssize_t d = embeddings.shape[1]
    cdef Py_ssize_t j
    if weights.shape[0] != n:
        raise ValueError(f"{n} items but {weights.shape[0]} weights")
    if importance.shape[0] != embeddings.shape[0]:
        raise ValueError("one importance for each row")
    for j in range(n):
        if not 0 <= items[j] < embeddings.shape[0]:
            raise IndexError(f"item {items[j]} has no row")
    out = np.zeros(d, np.float32)
    cdef float[::1] view = out
    if beside is not None:
        if beside.shape[0] != d:
            raise ValueError(f"beside has {beside.shape[0]} dimensions, the embeddings {d}")
        view[:] = beside
    if d:
        aggregate_vector(
            &items[0] if n else NULL, &weights[0] if n else NULL, n, &importance[0] if n else NULL,
            &embeddings[0, 0] if n else NULL, d, &view[0],
        )
    return out
