"""What is known of an item beside its vector, in one place because candidates lie all over the memory; and its category."""

from libc.stdint cimport int32_t

from columns cimport CATEGORY_LAST_ITEM, CATEGORY_SHARE, ROW


cdef struct Fact:
    float popularity
    float popularity_recent
    float log_importance
    int32_t category


cdef inline Py_ssize_t add_to_total(
    int32_t key, float weight, int32_t* keys, float* totals, Py_ssize_t n, Py_ssize_t most
) noexcept nogil:
    """Adds to the total of a key, -1 for none; returns how many keys there are, at most `most`."""
    cdef Py_ssize_t c
    for c in range(n):
        if keys[c] == key:
            totals[c] += weight
            return n
    if key < 0 or n == most:
        return n
    keys[n] = key
    totals[n] = weight
    return n + 1


cdef inline void categorise(
    const Fact* facts, const int32_t* items, const float* counts, Py_ssize_t stride, Py_ssize_t n, int32_t last,
    const int32_t* rows, Py_ssize_t m, float* table,
) noexcept nogil:
    """Whether a candidate is of the last item's category, and how much of the session is of its own.

    items [n] of the session, counts [n * stride]: how often each occurs; rows [m]: the candidates; table [m, ROW].
    """
    cdef Py_ssize_t r, i
    cdef int32_t category
    cdef float same, whole = 0.0
    for i in range(n):
        if facts[items[i]].category >= 0:
            whole += counts[i * stride]
    if whole == 0.0:
        return
    for r in range(m):
        category = facts[rows[r]].category
        if category < 0:
            continue
        same = 0.0
        for i in range(n):
            if facts[items[i]].category == category:
                same += counts[i * stride]
        table[r * ROW + CATEGORY_SHARE] = same / whole
        table[r * ROW + CATEGORY_LAST_ITEM] = 1.0 if last >= 0 and facts[last].category == category else 0.0
