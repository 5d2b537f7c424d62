"""Candidate sources over the model's lists: co-visitation and session-kNN, and the table that merges all sources.

Each source is a small class that binds the model's arrays and its scratch once, so that a request only passes its
context; the loops themselves are free functions over raw buffers. Scratch is dense (an accumulator for each item or
session) with a list of what was touched, so a request costs what it touches and leaves the scratch clean. An instance
belongs to one thread. The loops release the interpreter lock: a vector search that was started before them needs it for a
moment to get going, and then runs beside them.

Contexts are distinct items, oldest first, with the weights of `_context.weigh`; items of weight <= 0 give no candidates.
"""

from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint8_t

import numpy as np

from prefetch cimport prefetch
from topk cimport finish, offer

cdef enum:
    AHEAD = 8
    SESSIONS_AHEAD = 3


PAST = np.dtype(
    [("similarity", np.float32), ("standing", np.float32), ("newest", np.int32), ("begin", np.int32)]
)


cdef inline Py_ssize_t accumulate(
    float* acc, int32_t* touched, Py_ssize_t n_touched, int32_t item, float amount
) noexcept nogil:
    if acc[item] == 0.0:
        touched[n_touched] = item
        n_touched += 1
    acc[item] += amount
    return n_touched


cdef Py_ssize_t select(
    float* acc, const int32_t* touched, Py_ssize_t n_touched, const uint8_t* allowed, Py_ssize_t k,
    int32_t* out_items, float* out_scores,
) noexcept nogil:
    """The k best allowed items of the accumulator, best first; the accumulator is zero again afterwards."""
    cdef Py_ssize_t t, size = 0
    cdef int32_t item
    for t in range(n_touched):
        item = touched[t]
        if allowed[item] and acc[item] > 0.0:
            size = offer(out_scores, out_items, size, k, acc[item], item)
        acc[item] = 0.0
    finish(out_scores, out_items, size)
    return size


cdef Py_ssize_t covisit(
    const int32_t* context, const float* weights, Py_ssize_t n, const int64_t* offsets, const int32_t* neighbours,
    const float* strengths, float* acc, int32_t* touched,
) noexcept nogil:
    cdef Py_ssize_t j, p, end, n_touched = 0
    for j in range(n):
        prefetch(&offsets[context[j]])
    for j in range(n):
        prefetch(&neighbours[offsets[context[j]]])
        prefetch(&strengths[offsets[context[j]]])
    for j in range(n):
        if weights[j] > 0.0:
            end = offsets[context[j] + 1]
            for p in range(offsets[context[j]], end):
                if p + AHEAD < end:
                    prefetch(&acc[neighbours[p + AHEAD]])
                n_touched = accumulate(acc, touched, n_touched, neighbours[p], weights[j] * strengths[p])
    return n_touched


cdef struct Past:
    # A past session, in one place because those that share an item with this one lie all over the memory. `newest`: the
    # shared item that comes last in the context; `begin`: of its items.
    float similarity
    float standing
    int32_t newest
    int32_t begin


cdef Py_ssize_t match_sessions(
    const int32_t* context, const float* weights, Py_ssize_t n, const int64_t* item_offsets,
    const int32_t* item_sessions, Py_ssize_t sessions_per_item, const float* idf, Past* past, int32_t* touched,
) noexcept nogil:
    """Similarity of past sessions: the sum of the weights x IDF of the items shared."""
    cdef Py_ssize_t j, p, end, n_touched = 0
    cdef Past* session
    cdef float amount
    for j in range(n - 1, -1, -1):
        amount = weights[j] * idf[context[j]]
        if amount > 0.0:
            end = item_offsets[context[j]] + sessions_per_item
            if end > item_offsets[context[j] + 1]:
                end = item_offsets[context[j] + 1]
            for p in range(item_offsets[context[j]], end):
                if p + AHEAD < end:
                    prefetch(&past[item_sessions[p + AHEAD]])
                session = &past[item_sessions[p]]
                if session.similarity == 0.0:
                    session.newest = context[j]
                    touched[n_touched] = item_sessions[p]
                    n_touched += 1
                session.similarity += amount
    return n_touched


cdef Py_ssize_t nearest_sessions(
    Past* past, const int32_t* touched, Py_ssize_t n_touched, Py_ssize_t k, int32_t* out_sessions, float* out_scores,
) noexcept nogil:
    cdef Py_ssize_t t, size = 0
    cdef Past* session
    for t in range(n_touched):
        if t + AHEAD < n_touched:
            prefetch(&past[touched[t + AHEAD]])
        session = &past[touched[t]]
        size = offer(out_scores, out_sessions, size, k, session.similarity * session.standing, touched[t])
        session.similarity = 0.0
    return size


cdef Py_ssize_t vote(
    const int32_t* sessions, const float* scores, Py_ssize_t n_sessions, const Past* past, const int32_t* session_items,
    const float* distance_decay, Py_ssize_t n_decay, const float* idf_out, float* acc, int32_t* touched,
) noexcept nogil:
    """Each session votes for its items; the nearer in it to the item shared last, the heavier."""
    cdef Py_ssize_t q, p, begin, end, meeting, distance, n_touched = 0
    cdef int32_t session
    cdef float amount
    for q in range(n_sessions):
        if q + SESSIONS_AHEAD < n_sessions:
            prefetch(&session_items[past[sessions[q + SESSIONS_AHEAD]].begin])
        session = sessions[q]
        begin = past[session].begin
        end = past[session + 1].begin
        meeting = end - 1
        while meeting > begin and session_items[meeting] != past[session].newest:
            meeting -= 1
        if meeting - begin >= n_decay:
            begin = meeting - n_decay + 1
        if end - meeting > n_decay:
            end = meeting + n_decay
        for p in range(begin, end):
            distance = p - meeting if p >= meeting else meeting - p
            amount = scores[q] * distance_decay[distance] * idf_out[session_items[p]]
            if amount > 0.0:
                n_touched = accumulate(acc, touched, n_touched, session_items[p], amount)
    return n_touched


cdef check_context(const int32_t[::1] context, const float[::1] weights, Py_ssize_t n_items):
    cdef Py_ssize_t j
    if context.shape[0] != weights.shape[0]:
        raise ValueError(f"{context.shape[0]} context items but {weights.shape[0]} weights")
    for j in range(context.shape[0]):
        if not 0 <= context[j] < n_items:
            raise IndexError(f"context item {context[j]} is not in the model")


cdef check_lists(str name, const int64_t[::1] offsets, Py_ssize_t n_values):
    cdef Py_ssize_t i
    if offsets.shape[0] < 1 or offsets[0] != 0 or offsets[offsets.shape[0] - 1] != n_values:
        raise ValueError(f"{name}: offsets do not cover the values")
    for i in range(offsets.shape[0] - 1):
        if offsets[i] > offsets[i + 1]:
            raise ValueError(f"{name}: offsets fall at {i}")


cdef check_in_range(str name, const int32_t[::1] values, Py_ssize_t limit):
    cdef Py_ssize_t i
    for i in range(values.shape[0]):
        if not 0 <= values[i] < limit:
            raise ValueError(f"{name}: {values[i]} is out of range at {i}")


cdef class Accumulator:
    """Dense scores by item with the list of touched items: what the sources fill, and read from."""

    cdef float[::1] acc
    cdef int32_t[::1] touched
    cdef readonly Py_ssize_t size

    def __init__(self, Py_ssize_t size):
        self.size = size
        self.acc = np.zeros(max(size, 1), np.float32)
        self.touched = np.empty(max(size, 1), np.int32)

    cdef tuple top(self, Py_ssize_t n_touched, const uint8_t[::1] allowed, Py_ssize_t k):
        cdef Py_ssize_t found
        if k > n_touched:
            k = n_touched
        if k <= 0:
            self.clear(n_touched)
            return np.empty(0, np.int32), np.empty(0, np.float32)
        items = np.empty(k, np.int32)
        scores = np.empty(k, np.float32)
        cdef int32_t[::1] items_view = items
        cdef float[::1] scores_view = scores
        found = select(&self.acc[0], &self.touched[0], n_touched, &allowed[0], k, &items_view[0], &scores_view[0])
        return (items, scores) if found == k else (items[:found], scores[:found])

    cdef object gather(self, Py_ssize_t n_touched, const int32_t[::1] wanted):
        cdef Py_ssize_t i
        scores = np.empty(wanted.shape[0], np.float32)
        cdef float[::1] view = scores
        for i in range(wanted.shape[0]):
            view[i] = self.acc[wanted[i]]
        self.clear(n_touched)
        return scores

    cdef void clear(self, Py_ssize_t n_touched) noexcept:
        cdef Py_ssize_t t
        for t in range(n_touched):
            self.acc[self.touched[t]] = 0.0


cdef class ListSource:
    """What the sources have in common: a context fills the accumulator, which is then read and left clean."""

    cdef Accumulator items

    cdef Py_ssize_t fill(self, const int32_t[::1] context, const float[::1] weights) except -1:
        """Scores into the accumulator; how many items it touched."""
        raise NotImplementedError

    def top(self, const int32_t[::1] context, const float[::1] weights, const uint8_t[::1] allowed, Py_ssize_t k):
        """The k best items with allowed[item] != 0: (int32 [m], float32 [m]), best first, ties by item row."""
        if allowed.shape[0] != self.items.size:
            raise ValueError("allowed: one entry for each item")
        return self.items.top(self.fill(context, weights), allowed, k)

    def score(self, const int32_t[::1] context, const float[::1] weights, const int32_t[::1] wanted):
        """The scores of given items: float32 [len(wanted)], 0 where nothing links them to the context."""
        check_in_range("wanted", wanted, self.items.size)
        return self.items.gather(self.fill(context, weights), wanted)


cdef class Covisitation(ListSource):
    """Items seen together with those of the context: sum over the context of weight x strength of the pair.

    offsets: int64 [n + 1], neighbours: int32, strengths: float32 (> 0), as in the model.
    """

    cdef const int64_t[::1] offsets
    cdef const int32_t[::1] neighbours
    cdef const float[::1] strengths
    cdef int32_t[::1] row_of

    def __init__(self, const int64_t[::1] offsets, const int32_t[::1] neighbours, const float[::1] strengths):
        cdef Py_ssize_t n = offsets.shape[0] - 1
        check_lists("covisitation", offsets, neighbours.shape[0])
        check_in_range("covisitation", neighbours, n)
        if strengths.shape[0] != neighbours.shape[0] or not np.all(np.asarray(strengths) > 0):
            raise ValueError("covisitation: a positive strength for each neighbour")
        self.offsets, self.neighbours, self.strengths = offsets, neighbours, strengths
        self.items = Accumulator(n)
        self.row_of = np.full(max(n, 1), -1, np.int32)

    cdef Py_ssize_t fill(self, const int32_t[::1] context, const float[::1] weights) except -1:
        check_context(context, weights, self.items.size)
        if context.shape[0] == 0 or self.neighbours.shape[0] == 0:
            return 0
        with nogil:
            return covisit(
                &context[0], &weights[0], context.shape[0], &self.offsets[0], &self.neighbours[0], &self.strengths[0],
                &self.items.acc[0], &self.items.touched[0],
            )

    def strongest(self, const int32_t[::1] items, const int32_t[::1] context, const float[::1] weights):
        """For each item (int32 [m], distinct) the context row of the other item that contributes most to it: int32
        [m], -1 where none does; ties go to the newest.
        """
        cdef Py_ssize_t j, p, r, m = items.shape[0]
        cdef float amount
        check_context(context, weights, self.items.size)
        check_in_range("items", items, self.items.size)
        context_rows = np.full(m, -1, np.int32)
        cdef int32_t[::1] context_row_of = context_rows
        cdef float[::1] most = np.zeros(m, np.float32)
        for r in range(m):
            self.row_of[items[r]] = <int32_t>r
        for j in range(context.shape[0] - 1, -1, -1):
            if weights[j] > 0.0:
                for p in range(self.offsets[context[j]], self.offsets[context[j] + 1]):
                    r = self.row_of[self.neighbours[p]]
                    if r >= 0 and self.neighbours[p] != context[j]:
                        amount = weights[j] * self.strengths[p]
                        if amount > most[r]:
                            most[r] = amount
                            context_row_of[r] = <int32_t>j
        for r in range(m):
            self.row_of[items[r]] = -1
        return context_rows


cdef class SessionKnn(ListSource):
    """Items of the past sessions most similar to this one (vector-multiplication session-kNN: Ludewig & Jannach 2018,
    with the position-aware votes of STAN: Garg et al. 2019).

    1. Similarity of a past session: sum of context weight x IDF over shared items / sqrt(its length), halved for every
       `age_half_life` of its age, in the unit of the model's ages (0: age does not count). Only the newest
       `sessions_per_item` of an item are looked at.
    2. The `neighbours` most similar sessions vote for their items: similarity x exp(-distance_decay x distance to the shared
       item that comes last in the context) x IDF^idf_power; items `reach` or more away from it get no vote.
    """

    cdef const int64_t[::1] item_offsets
    cdef const int32_t[::1] item_sessions
    cdef const int32_t[::1] session_items
    cdef const float[::1] idf
    cdef float[::1] idf_out
    cdef float[::1] decay
    cdef Py_ssize_t neighbours, sessions_per_item
    cdef Past[::1] past
    cdef int32_t[::1] touched
    cdef int32_t[::1] near_sessions
    cdef float[::1] near_scores

    def __init__(
        self, const int64_t[::1] item_offsets, const int32_t[::1] item_sessions, const int64_t[::1] session_offsets,
        const int32_t[::1] session_items, const float[::1] session_age, const float[::1] idf, *,
        Py_ssize_t neighbours=200, Py_ssize_t sessions_per_item=500, float age_half_life=0.0,
        float distance_decay=0.25, float idf_power=1.0, Py_ssize_t reach=16,
    ):
        cdef Py_ssize_t n = item_offsets.shape[0] - 1
        cdef Py_ssize_t s = session_offsets.shape[0] - 1
        check_lists("item sessions", item_offsets, item_sessions.shape[0])
        check_lists("session items", session_offsets, session_items.shape[0])
        check_in_range("item sessions", item_sessions, s)
        check_in_range("session items", session_items, n)
        if session_age.shape[0] != s or idf.shape[0] != n:
            raise ValueError("session-kNN: one age for each session, one IDF for each item")
        if session_items.shape[0] > INT32_MAX:
            raise ValueError("session-kNN: more items of sessions than a place of 32 bits can name")
        if neighbours < 1 or sessions_per_item < 1 or reach < 1:
            raise ValueError("session-kNN: neighbours, sessions_per_item and reach must be positive")
        self.item_offsets, self.item_sessions = item_offsets, item_sessions
        self.session_items = session_items
        self.idf = idf
        # What a session's similarity is multiplied by, whatever the context.
        lengths = np.maximum(np.diff(np.asarray(session_offsets)), 1)
        fading = np.exp2(-np.asarray(session_age) / age_half_life) if age_half_life > 0.0 else 1.0
        past = np.zeros(s + 1, PAST)
        past["standing"][:s] = fading / np.sqrt(lengths)
        past["begin"] = session_offsets
        self.past = past
        self.touched = np.empty(max(s, 1), np.int32)
        self.idf_out = np.power(np.maximum(np.asarray(idf), 0), np.float32(idf_power)).astype(np.float32)
        self.decay = np.exp(-distance_decay * np.arange(reach)).astype(np.float32)
        self.neighbours, self.sessions_per_item = neighbours, sessions_per_item
        self.items = Accumulator(n)
        self.near_sessions = np.empty(neighbours, np.int32)
        self.near_scores = np.empty(neighbours, np.float32)

    cdef Py_ssize_t fill(self, const int32_t[::1] context, const float[::1] weights) except -1:
        cdef Py_ssize_t n_touched, n_near
        check_context(context, weights, self.items.size)
        if context.shape[0] == 0 or self.item_sessions.shape[0] == 0:
            return 0
        with nogil:
            n_touched = match_sessions(
                &context[0], &weights[0], context.shape[0], &self.item_offsets[0], &self.item_sessions[0],
                self.sessions_per_item, &self.idf[0], &self.past[0], &self.touched[0],
            )
            n_near = nearest_sessions(
                &self.past[0], &self.touched[0], n_touched, self.neighbours, &self.near_sessions[0],
                &self.near_scores[0],
            )
            return vote(
                &self.near_sessions[0], &self.near_scores[0], n_near, &self.past[0], &self.session_items[0],
                &self.decay[0], self.decay.shape[0], &self.idf_out[0], &self.items.acc[0], &self.items.touched[0],
            )
