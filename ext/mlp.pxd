"""The perceptron that scores a row of features, and what each group of features has in a score: see `perceptron.h`."""

from libc.stdint cimport int32_t

cdef extern from "perceptron.h":
    enum:
        LANES
        FEATURES_MAX
        HIDDEN_MAX

    ctypedef struct Perceptron "perceptron":
        const float* mean
        const float* inverse_scale
        const float* skip
        const float* neutral
        const int32_t* grouped
        const int32_t* group_starts
        const float* hidden
        const float* bias
        const float* out
        Py_ssize_t features
        Py_ssize_t groups
        Py_ssize_t tiles
        float limit

    void score_rows(const Perceptron* p, const float* table, Py_ssize_t rows, float* scores) noexcept nogil
    void contribution_rows(
        const Perceptron* p, const float* table, const int32_t* which, Py_ssize_t count, float* contributions
    ) noexcept nogil
