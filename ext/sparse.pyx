"""A sparse matrix times a dense one. SciPy's product holds the interpreter lock and waits for each row of the dense one;
here threads share the rows of the sparse one, and what a row needs is asked for ahead. The sums are the same, in the same
order, whatever the number of threads.
"""

from libc.stdint cimport int32_t, int64_t

import numpy as np

cdef extern from "lanes.h":
    # out [width] += values [count] . the rows of dense [.., width] named by `columns` [count].
    void add_scaled_rows(
        const float* dense, const int32_t* columns, const float* values, Py_ssize_t count, Py_ssize_t width, float* out
    ) noexcept nogil


def multiply(
    const int64_t[::1] offsets, const int32_t[::1] columns, const float[::1] values, const float[:, ::1] dense,
    Py_ssize_t begin, Py_ssize_t end, float[:, ::1] out,
):
    """Rows begin..end of the product into `out` (float32 [rows, width], zeros before). The sparse matrix as in CSR: offsets
    int64 [rows + 1], columns int32, values float32; dense: float32 [columns, width]. Raises ValueError.
    """
    cdef Py_ssize_t r, p, width = dense.shape[1]
    if not 0 <= begin <= end <= offsets.shape[0] - 1 or columns.shape[0] != values.shape[0]:
        raise ValueError("rows that are not there, or not a value for each column")
    if out.shape[0] != offsets.shape[0] - 1 or out.shape[1] != width:
        raise ValueError(f"the product is {offsets.shape[0] - 1} x {width}, not {out.shape[0]} x {out.shape[1]}")
    if begin == end or width == 0:
        return
    for r in range(begin, end):
        if offsets[r] > offsets[r + 1]:
            raise ValueError(f"offsets fall at {r}")
    if offsets[begin] < 0 or offsets[end] > columns.shape[0]:
        raise ValueError("offsets beyond the columns")
    for p in range(offsets[begin], offsets[end]):
        if not 0 <= columns[p] < dense.shape[0]:
            raise ValueError(f"column {columns[p]} is not in the dense matrix")
    with nogil:
        for r in range(begin, end):
            if offsets[r] < offsets[r + 1]:
                add_scaled_rows(
                    &dense[0, 0], &columns[offsets[r]], &values[offsets[r]], offsets[r + 1] - offsets[r], width, &out[r, 0]
                )
