"""What a graph search gives -> neighbours in their one order: most similar first, ties by item row."""

from libc.stdint cimport int32_t, uint64_t

import numpy as np


def ordered_neighbours(const uint64_t[:, ::1] labels, const float[:, ::1] distances):
    """item rows int32 [k] and similarities float32 [k] of the first row of labels [1, k] and distances [1, k] (1 -
    cosine, ascending). A graph that fills up with equal distances gives them in any order; here it is always the same.
    """
    cdef Py_ssize_t i, j, k = labels.shape[1]
    cdef int32_t item_row
    cdef float similarity
    if labels.shape[0] != 1 or distances.shape[0] != 1 or distances.shape[1] != k:
        raise ValueError("labels and distances: one row of each, as long as the other")
    item_rows = np.empty(k, np.int32)
    similarities = np.empty(k, np.float32)
    cdef int32_t[::1] at = item_rows
    cdef float[::1] near = similarities
    # By insertion: what comes is sorted already but for ties.
    for i in range(k):
        item_row, similarity = <int32_t>labels[0, i], 1.0 - distances[0, i]
        j = i
        while j > 0 and (near[j - 1] < similarity or (near[j - 1] == similarity and at[j - 1] > item_row)):
            at[j], near[j] = at[j - 1], near[j - 1]
            j -= 1
        at[j], near[j] = item_row, similarity
    return item_rows, similarities
