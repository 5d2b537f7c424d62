"""A small perceptron over one row of features: score = skip . x + out . relu(hidden^T x + bias) of standardised x.

Weights of the hidden layer lie feature by feature ([features, hidden]), so that the inner loop runs over hidden units:
it has no sum to carry, and the compiler may use the vector unit.
"""

from libc.stdint cimport int32_t

from columns cimport FEATURES, GROUPS

cdef enum:
    HIDDEN_MAX = 64


cdef struct Perceptron:
    # [FEATURES] each; `neutral` is in units of x.
    const float* mean
    const float* inverse_scale
    const float* skip
    const float* neutral
    const int32_t* group
    # [FEATURES, width], [n_hidden], [n_hidden]
    const float* hidden
    const float* bias
    const float* out
    Py_ssize_t n_hidden
    Py_ssize_t width
    float limit


cdef inline float standardised(const Perceptron* p, Py_ssize_t f, float raw) noexcept nogil:
    cdef float x = (raw - p.mean[f]) * p.inverse_scale[f]
    if x > p.limit:
        return p.limit
    if x < -p.limit:
        return -p.limit
    # A NaN fails both comparisons above; it must not reach the score.
    return x if x == x else 0.0


cdef inline void add_feature(const Perceptron* p, Py_ssize_t f, float x, float* hidden) noexcept nogil:
    cdef const float* weights = p.hidden + f * p.width
    cdef Py_ssize_t u
    for u in range(p.n_hidden):
        hidden[u] += x * weights[u]


cdef inline float output(const Perceptron* p, const float* hidden) noexcept nogil:
    cdef Py_ssize_t u = 0, n = p.n_hidden
    cdef float s0 = 0.0, s1 = 0.0, s2 = 0.0, s3 = 0.0
    # Four sums, because strict floating point forbids the compiler to reorder one.
    while u + 4 <= n:
        s0 += p.out[u] * (hidden[u] if hidden[u] > 0.0 else 0.0)
        s1 += p.out[u + 1] * (hidden[u + 1] if hidden[u + 1] > 0.0 else 0.0)
        s2 += p.out[u + 2] * (hidden[u + 2] if hidden[u + 2] > 0.0 else 0.0)
        s3 += p.out[u + 3] * (hidden[u + 3] if hidden[u + 3] > 0.0 else 0.0)
        u += 4
    while u < n:
        s0 += p.out[u] * (hidden[u] if hidden[u] > 0.0 else 0.0)
        u += 1
    return (s0 + s1) + (s2 + s3)


cdef inline float forward(const Perceptron* p, const float* row, float* x, float* hidden) noexcept nogil:
    """Fills x [FEATURES] and the hidden units before their relu [n_hidden]; returns the linear part of the score."""
    cdef float linear = 0.0
    cdef Py_ssize_t f, u
    for u in range(p.n_hidden):
        hidden[u] = p.bias[u]
    for f in range(FEATURES):
        x[f] = standardised(p, f, row[f])
        if x[f] != 0.0:
            linear += x[f] * p.skip[f]
            add_feature(p, f, x[f], hidden)
    return linear


cdef inline float score(const Perceptron* p, const float* row) noexcept nogil:
    cdef float x[FEATURES]
    cdef float hidden[HIDDEN_MAX]
    cdef float linear = forward(p, row, x, hidden)
    return linear + output(p, hidden)


cdef inline void shares(const Perceptron* p, const float* row, float* out) noexcept nogil:
    """What each group of features adds: the score less what it would be with the group at its neutral values."""
    cdef float x[FEATURES]
    cdef float hidden[HIDDEN_MAX]
    cdef float without[HIDDEN_MAX]
    cdef float linear = forward(p, row, x, hidden)
    cdef float whole = linear + output(p, hidden), less
    cdef Py_ssize_t f, u, g
    for g in range(GROUPS):
        less = linear
        for u in range(p.n_hidden):
            without[u] = hidden[u]
        for f in range(FEATURES):
            if p.group[f] == g and x[f] != p.neutral[f]:
                less += (p.neutral[f] - x[f]) * p.skip[f]
                add_feature(p, f, p.neutral[f] - x[f], without)
        out[g] = whole - less - output(p, without)
