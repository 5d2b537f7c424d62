"""The k best of a stream of (score, item) pairs, kept in two parallel buffers as a binary heap with the worst on top.

Order: higher score first; equal scores by lower item row; a NaN score is never taken. So results do not depend
on the order in which pairs arrive.
"""

from libc.stdint cimport int32_t


cdef inline bint worse(float a, int32_t a_item, float b, int32_t b_item) noexcept nogil:
    return a < b or (a == b and a_item > b_item)


cdef inline void sift_down(float* scores, int32_t* items, Py_ssize_t root, Py_ssize_t size) noexcept nogil:
    cdef float score = scores[root]
    cdef int32_t item = items[root]
    cdef Py_ssize_t child
    while True:
        child = 2 * root + 1
        if child >= size:
            break
        if child + 1 < size and worse(scores[child + 1], items[child + 1], scores[child], items[child]):
            child += 1
        if not worse(scores[child], items[child], score, item):
            break
        scores[root] = scores[child]
        items[root] = items[child]
        root = child
    scores[root] = score
    items[root] = item


cdef inline Py_ssize_t offer(
    float* scores, int32_t* items, Py_ssize_t size, Py_ssize_t k, float score, int32_t item
) noexcept nogil:
    """Takes the pair if it is among the k best so far; returns the new size of the heap."""
    cdef Py_ssize_t child, parent
    if k <= 0 or score != score:
        return size
    if size == k:
        if worse(scores[0], items[0], score, item):
            scores[0] = score
            items[0] = item
            sift_down(scores, items, 0, size)
        return size
    child = size
    while child > 0:
        parent = (child - 1) // 2
        if not worse(score, item, scores[parent], items[parent]):
            break
        scores[child] = scores[parent]
        items[child] = items[parent]
        child = parent
    scores[child] = score
    items[child] = item
    return size + 1


cdef inline void finish(float* scores, int32_t* items, Py_ssize_t size) noexcept nogil:
    """Turns the heap into a list, best first."""
    cdef Py_ssize_t last = size - 1
    cdef float score
    cdef int32_t item
    while last > 0:
        score = scores[last]
        item = items[last]
        scores[last] = scores[0]
        items[last] = items[0]
        scores[0] = score
        items[0] = item
        sift_down(scores, items, 0, last)
        last -= 1
