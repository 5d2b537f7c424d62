"""Rows and columns of floats."""

from libc.math cimport log1pf
from libc.stdint cimport int32_t

cdef extern from "lanes.h":
    void prefetch_row(const float* row, Py_ssize_t d) noexcept nogil
    # Of `row` with a and with b, d floats each.
    void two_dots(
        const float* row, const float* a, const float* b, Py_ssize_t d, float* with_a, float* with_b
    ) noexcept nogil
    # Of `query` with the rows [.., d] named by `which` [count].
    void gathered_dots(
        const float* rows, const int32_t* which, Py_ssize_t count, const float* query, Py_ssize_t d, float* out
    ) noexcept nogil


cdef inline float dot(const float* a, const float* b, Py_ssize_t d) noexcept nogil:
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


cdef inline void scale_by_largest(
    float* table, Py_ssize_t rows, Py_ssize_t width, Py_ssize_t column, Py_ssize_t log_column
) noexcept nogil:
    """A column of scores >= 0 -> shares of the largest, with log(1 + score) in another column."""
    cdef Py_ssize_t r
    cdef float largest = 0.0
    for r in range(rows):
        if table[r * width + column] > largest:
            largest = table[r * width + column]
    if largest > 0.0:
        for r in range(rows):
            table[r * width + log_column] = log1pf(table[r * width + column])
            table[r * width + column] /= largest
