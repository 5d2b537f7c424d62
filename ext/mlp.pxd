"""A small perceptron over one row of features: score = skip . x + out . relu(hidden^T x + bias), x standardised and clipped.

Weights of the hidden layer lie feature by feature ([features, hidden]), so that the inner loop runs over hidden units: it has
no sum to carry and the compiler may use the vector unit.
"""

cdef enum:
    HIDDEN_MAX = 64


cdef inline float standardised(float raw, float mean, float inverse_scale, float limit) noexcept nogil:
    cdef float x = (raw - mean) * inverse_scale
    if x > limit:
        return limit
    if x < -limit:
        return -limit
    # A NaN fails both comparisons above; it must not reach the score.
    return x if x == x else 0.0


cdef inline void add_feature(float* hidden, const float* weights, Py_ssize_t n_hidden, float x) noexcept nogil:
    cdef Py_ssize_t u
    for u in range(n_hidden):
        hidden[u] += x * weights[u]


cdef inline float output(const float* hidden, const float* out, Py_ssize_t n_hidden) noexcept nogil:
    cdef Py_ssize_t u
    cdef float s0 = 0.0, s1 = 0.0, s2 = 0.0, s3 = 0.0
    u = 0
    # Four sums, because strict floating point forbids the compiler to reorder one.
    while u + 4 <= n_hidden:
        s0 += out[u] * (hidden[u] if hidden[u] > 0.0 else 0.0)
        s1 += out[u + 1] * (hidden[u + 1] if hidden[u + 1] > 0.0 else 0.0)
        s2 += out[u + 2] * (hidden[u + 2] if hidden[u + 2] > 0.0 else 0.0)
        s3 += out[u + 3] * (hidden[u + 3] if hidden[u + 3] > 0.0 else 0.0)
        u += 4
    while u < n_hidden:
        s0 += out[u] * (hidden[u] if hidden[u] > 0.0 else 0.0)
        u += 1
    return (s0 + s1) + (s2 + s3)
