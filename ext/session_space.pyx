"""What the training of item vectors does event by event: sum contexts, take their gradients back, step the rows touched.

    encode            context r = sum over its events of  weight x dropped-out vector of the item
    encode_backward   gradient of each context -> of each event's weight and of each item's row
    assign_slots      the distinct items of a batch, numbered in the order of their first appearance
    scatter_add       rows added to numbered rows
    adam_rows         Adam on the rows a batch touched, and on no others (lazy: untouched moments do not decay)

Every kernel takes float32, which trains, and float64, in which gradients are checked. Dropout is a function of
(key, event, column), so that the way back repeats it without having stored it. The NumPy twins stand in
tests/ext/session_space_oracles.py.
"""

from libc.math cimport sqrt, sqrtf
from libc.stdint cimport int32_t, int64_t, uint64_t

ctypedef fused real:
    float
    double

cdef enum:
    BLOCK = 8  # columns whose fate one random word decides, a byte each


cdef inline uint64_t mixed(uint64_t x) noexcept nogil:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014)."""
    x += 0x9E3779B97F4A7C15u
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu
    return x ^ (x >> 31)


cdef inline void fill_mask(uint64_t key, Py_ssize_t event, Py_ssize_t d, int dropped, real* mask) noexcept nogil:
    """1 where a column stays, 0 where it is dropped; each is dropped with probability dropped / 256."""
    cdef Py_ssize_t c, k, blocks = (d + BLOCK - 1) // BLOCK
    cdef uint64_t word
    for c in range(blocks):
        word = mixed(key + <uint64_t>(event * blocks + c))
        for k in range(BLOCK):
            mask[c * BLOCK + k] = 1 if <int>((word >> (8 * k)) & 255) >= dropped else 0


cdef void add_context(
    const real* vectors, const int32_t* items, const real* weights, Py_ssize_t first, Py_ssize_t last, Py_ssize_t d,
    uint64_t key, int dropped, real scale, real* mask, real* out,
) noexcept nogil:
    cdef Py_ssize_t e, c
    cdef const real* row
    cdef real w
    for e in range(first, last):
        row = vectors + <Py_ssize_t>items[e] * d
        w = weights[e] * scale
        if dropped:
            fill_mask(key, e, d, dropped, mask)
            for c in range(d):
                out[c] += w * mask[c] * row[c]
        else:
            for c in range(d):
                out[c] += w * row[c]


cdef real take_back(
    const real* row, const real* slope, const real* mask, real w, Py_ssize_t d, real* gradient
) noexcept nogil:
    """Adds w x mask x slope to the gradient; returns the sum of mask x slope x row."""
    cdef Py_ssize_t c = 0
    cdef real s0 = 0, s1 = 0, s2 = 0, s3 = 0
    # Four sums, because strict floating point forbids the compiler to reorder one.
    while c + 4 <= d:
        s0 += mask[c] * slope[c] * row[c]
        s1 += mask[c + 1] * slope[c + 1] * row[c + 1]
        s2 += mask[c + 2] * slope[c + 2] * row[c + 2]
        s3 += mask[c + 3] * slope[c + 3] * row[c + 3]
        c += 4
    while c < d:
        s0 += mask[c] * slope[c] * row[c]
        c += 1
    for c in range(d):
        gradient[c] += w * mask[c] * slope[c]
    return (s0 + s1) + (s2 + s3)


cdef void step_row(
    real* values, real* mean, real* square, const real* gradient, Py_ssize_t d, real rate, real beta1, real beta2,
    real unbias, real epsilon,
) noexcept nogil:
    cdef Py_ssize_t c
    cdef real g, m, v, rest1 = <real>1 - beta1, rest2 = <real>1 - beta2
    for c in range(d):
        g = gradient[c]
        m = beta1 * mean[c] + rest1 * g
        v = beta2 * square[c] + rest2 * g * g
        mean[c] = m
        square[c] = v
        if real is float:
            values[c] -= rate * m / (sqrtf(v) * unbias + epsilon)
        else:
            values[c] -= rate * m / (sqrt(v) * unbias + epsilon)


cdef int check_rows(const int32_t[::1] rows, Py_ssize_t n) except -1:
    cdef Py_ssize_t i
    for i in range(rows.shape[0]):
        if not 0 <= rows[i] < n:
            raise IndexError(f"row {rows[i]} of {n}")
    return 0


cdef int check_segments(const int64_t[::1] segments, Py_ssize_t contexts, Py_ssize_t events) except -1:
    cdef Py_ssize_t r
    if segments.shape[0] != contexts + 1 or segments[0] != 0 or segments[contexts] != events:
        raise ValueError("segments must lead from 0 to the number of events, one more than contexts")
    for r in range(contexts):
        if segments[r] > segments[r + 1]:
            raise ValueError("segments must not fall")
    return 0


def mask_width(Py_ssize_t d):
    """How many values the scratch `mask` of the functions below needs for d columns."""
    return max((d + BLOCK - 1) // BLOCK * BLOCK, 1)


def encode(
    const real[:, ::1] vectors, const int32_t[::1] items, const real[::1] weights, const int64_t[::1] segments,
    uint64_t key, int dropped, real[::1] mask, real[:, ::1] out,
):
    """Writes the context sums, [b, d], to `out`.

    vectors [n, d]; items int32 [e], rows of vectors; weights [e]; segments int64 [b + 1]: context r has the events
    segments[r]..segments[r + 1]; dropped: in 256ths, 0..255; mask: scratch. Raises ValueError, IndexError.
    """
    cdef Py_ssize_t r, d = vectors.shape[1], contexts = out.shape[0]
    cdef real scale
    if weights.shape[0] != items.shape[0] or out.shape[1] != d or mask.shape[0] < mask_width(d):
        raise ValueError("shapes differ")
    if not 0 <= dropped <= 255:
        raise ValueError("dropped must be 0..255")
    check_segments(segments, contexts, items.shape[0])
    check_rows(items, vectors.shape[0])
    out[:, :] = 0
    if items.shape[0] == 0 or d == 0:
        return
    scale = <real>(256.0 / (256 - dropped))
    with nogil:
        for r in range(contexts):
            add_context(
                &vectors[0, 0], &items[0], &weights[0], segments[r], segments[r + 1], d, key, dropped, scale,
                &mask[0], &out[r, 0],
            )


def encode_backward(
    const real[:, ::1] vectors, const int32_t[::1] items, const real[::1] weights, const int64_t[::1] segments,
    uint64_t key, int dropped, real[::1] mask, const real[:, ::1] slopes, const int32_t[::1] slots,
    real[:, ::1] gradient, real[::1] weight_gradient,
):
    """The way back of `encode`: slopes [b, d] are the gradients of its output.

    Adds to gradient [s, d], row slots[e] for event e; writes weight_gradient [e]. Raises ValueError, IndexError.
    """
    cdef Py_ssize_t r, e, c, d = vectors.shape[1], contexts = slopes.shape[0], events = items.shape[0]
    cdef real scale
    if weights.shape[0] != events or slots.shape[0] != events or weight_gradient.shape[0] != events:
        raise ValueError("as many weights, slots and gradients as items")
    if slopes.shape[1] != d or gradient.shape[1] != d or mask.shape[0] < mask_width(d):
        raise ValueError("shapes differ")
    if not 0 <= dropped <= 255:
        raise ValueError("dropped must be 0..255")
    check_segments(segments, contexts, events)
    check_rows(items, vectors.shape[0])
    check_rows(slots, gradient.shape[0])
    if events == 0 or d == 0:
        return
    scale = <real>(256.0 / (256 - dropped))
    with nogil:
        for c in range(d):
            mask[c] = 1
        for r in range(contexts):
            for e in range(segments[r], segments[r + 1]):
                if dropped:
                    fill_mask(key, e, d, dropped, &mask[0])
                weight_gradient[e] = scale * take_back(
                    &vectors[items[e], 0], &slopes[r, 0], &mask[0], weights[e] * scale, d, &gradient[slots[e], 0]
                )


def assign_slots(
    const int32_t[::1] items, int32_t[::1] slot_of, int32_t[::1] rows, Py_ssize_t count, int32_t[::1] slots
):
    """Gives every distinct item a slot: slots[e] is the slot of items[e], rows[slot] its item.

    slot_of int32 [n]: -1 for an item without a slot; `count` slots are taken already; returns how many are now. Who
    calls sets slot_of[rows] back to -1 in the end. Raises ValueError, IndexError; nothing is assigned then.
    """
    cdef Py_ssize_t e
    cdef int32_t item
    if slots.shape[0] != items.shape[0] or rows.shape[0] < count + items.shape[0]:
        raise ValueError("slots: one for each item; rows: room for all of them")
    check_rows(items, slot_of.shape[0])
    with nogil:
        for e in range(items.shape[0]):
            item = items[e]
            if slot_of[item] < 0:
                slot_of[item] = <int32_t>count
                rows[count] = item
                count += 1
            slots[e] = slot_of[item]
    return count


def scatter_add(real[:, ::1] target, const int32_t[::1] rows, const real[:, ::1] values, real scale):
    """target[rows[i]] += scale x values[i], repeated rows added up. Raises ValueError, IndexError."""
    cdef Py_ssize_t i, c, d = target.shape[1]
    cdef real* out
    if values.shape[0] != rows.shape[0] or values.shape[1] != d:
        raise ValueError("a row of values for each row")
    check_rows(rows, target.shape[0])
    if d == 0:
        return
    with nogil:
        for i in range(rows.shape[0]):
            out = &target[rows[i], 0]
            for c in range(d):
                out[c] += scale * values[i, c]


def adam_rows(
    real[:, ::1] values, real[:, ::1] mean, real[:, ::1] square, const int32_t[::1] rows,
    const real[:, ::1] gradient, double rate, int64_t step, double beta1=0.9, double beta2=0.999, double epsilon=1e-8,
):
    """One step of Adam (Kingma & Ba 2015) on values[rows], whose gradients are gradient [len(rows), d]; every other
    row, its moments too, keeps its bits. rows: distinct; step: counts from 1. Raises ValueError, IndexError.
    """
    cdef Py_ssize_t i, d = values.shape[1]
    cdef real step_rate, unbias
    if mean.shape[0] != values.shape[0] or square.shape[0] != values.shape[0]:
        raise ValueError("moments of every row")
    if mean.shape[1] != d or square.shape[1] != d or gradient.shape[1] != d or gradient.shape[0] != rows.shape[0]:
        raise ValueError("shapes differ")
    if step < 1:
        raise ValueError("step counts from 1")
    check_rows(rows, values.shape[0])
    if d == 0:
        return
    step_rate = <real>(rate / (1 - beta1**step))
    unbias = <real>(1 / sqrt(1 - beta2**step))
    with nogil:
        for i in range(rows.shape[0]):
            step_row(
                &values[rows[i], 0], &mean[rows[i], 0], &square[rows[i], 0], &gradient[i, 0], d, step_rate,
                <real>beta1, <real>beta2, unbias, <real>epsilon,
            )
