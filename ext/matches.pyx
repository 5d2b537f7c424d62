"""Items by the words that they hold: an inverted index, asked for several words at once.

What holds every word comes first, then what holds the rarer ones: a word weighs the more, the fewer items hold it. The
lists of a word are ascending, so those of several words are walked together, in leaps (galloping search: Bentley & Yao
1976), and a row says how popular an item is: of equal ones the first are taken.

Of variants of one product the best is found, if it is known which they are: 1,500 sizes of a shirt would be all that there
is of "shirt".

However common the words and however many the items, a query looks at a bounded number of them (Moffat & Zobel 1996,
"continue"): past LISTED_MAX items a further word adds none, it only counts for those that are there.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

import numpy as np

from stamps cimport next_turn
from topk cimport finish, offer

cdef enum:
    WORDS_MAX = 16
    LOOKED_AT_MAX = 65536
    LISTED_MAX = 4096


cdef inline int64_t leap(const int32_t* items, int64_t begin, int64_t end, int32_t item) noexcept nogil:
    """The first place in begin..end whose item is not less than `item`."""
    cdef int64_t step = 1, low = begin, high, middle
    if begin >= end or items[begin] >= item:
        return begin
    while low + step < end and items[low + step] < item:
        low += step
        step *= 2
    high = min(low + step, end)
    low += 1
    while low < high:
        middle = low + (high - low) // 2
        if items[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low


cdef struct Groups:
    # Of variants, and which of them were met in this turn. `of_item` NULL: none are known.
    const int32_t* of_item
    uint32_t* met
    uint32_t turn


cdef inline bint met(Groups* groups, int32_t item) noexcept nogil:
    """Whether a variant of the item's product was met before."""
    return (
        groups.of_item != NULL and groups.of_item[item] >= 0 and groups.met[groups.of_item[item]] == groups.turn
    )


cdef inline void meet(Groups* groups, int32_t item) noexcept nogil:
    if groups.of_item != NULL and groups.of_item[item] >= 0:
        groups.met[groups.of_item[item]] = groups.turn


cdef Py_ssize_t holding_all(
    const int64_t* begins, const int64_t* ends, Py_ssize_t n, const int32_t* items, const uint8_t* allowed,
    Groups* groups, Py_ssize_t k, int32_t* out,
) noexcept nogil:
    """The first k allowed items in all n lists, the shortest list first; how many they are."""
    cdef int64_t at[WORDS_MAX]
    cdef int64_t p
    cdef Py_ssize_t j, size = 0
    cdef int32_t item
    cdef bint held
    for j in range(n):
        at[j] = begins[j]
    for p in range(begins[0], min(ends[0], begins[0] + LOOKED_AT_MAX)):
        item = items[p]
        if not allowed[item] or met(groups, item):
            continue
        held = True
        for j in range(1, n):
            at[j] = leap(items, at[j], ends[j], item)
            if at[j] == ends[j]:
                return size
            if items[at[j]] != item:
                held = False
                break
        if held:
            meet(groups, item)
            out[size] = item
            size += 1
            if size == k:
                break
    return size


cdef Py_ssize_t holding_some(
    const int64_t* begins, const int64_t* ends, const float* weights, Py_ssize_t n, const int32_t* items,
    const uint8_t* allowed, Groups* groups, float* acc, int32_t* touched, Py_ssize_t n_touched,
) noexcept nogil:
    """The weights of the words that an item holds, summed in the accumulator; how many items it touched."""
    cdef int64_t counted[WORDS_MAX]
    cdef int64_t p, looked_at = 0
    cdef Py_ssize_t j, t
    cdef int32_t item
    for j in range(n):
        p = begins[j]
        while p < ends[j] and n_touched < LISTED_MAX and looked_at < LOOKED_AT_MAX:
            item = items[p]
            p += 1
            looked_at += 1
            # A variant of what holds every word comes behind that.
            if allowed[item] and not met(groups, item):
                if acc[item] == 0.0:
                    touched[n_touched] = item
                    n_touched += 1
                acc[item] += weights[j]
        counted[j] = p
    for j in range(n):
        if counted[j] == ends[j]:
            continue
        for t in range(n_touched):
            item = touched[t]
            p = leap(items, counted[j], ends[j], item)
            if p < ends[j] and items[p] == item:
                acc[item] += weights[j]
    return n_touched


cdef Py_ssize_t one_of_each(
    Groups* groups, int32_t* items, float* scores, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t k
) noexcept nogil:
    """Of items[begin:end] the first of each group that was not met, moved up; where the first k of them all end."""
    cdef Py_ssize_t t, size = begin
    for t in range(begin, end):
        if size == k:
            break
        if not met(groups, items[t]):
            meet(groups, items[t])
            items[size], scores[size] = items[t], scores[t]
            size += 1
    return size


cdef class WordMatches:
    """offsets: int64 [w + 1], items: int32, of each word those that hold it, ascending; `size` items are known. groups:
    int32 [size], -1 for an item on its own; None: there are no variants.

    Keeps a dense accumulator, which each query leaves clean. One thread at a time. Raises ValueError.
    """

    cdef const int64_t[::1] offsets
    cdef const int32_t[::1] items
    cdef const int32_t[::1] groups
    cdef float[::1] acc
    cdef int32_t[::1] touched
    cdef uint32_t[::1] met
    cdef uint32_t turn
    cdef readonly Py_ssize_t size

    def __init__(
        self, const int64_t[::1] offsets, const int32_t[::1] items, Py_ssize_t size, const int32_t[::1] groups=None
    ):
        places, held = np.asarray(offsets), np.asarray(items)
        cdef Py_ssize_t n = offsets.shape[0]
        if n < 1 or offsets[0] != 0 or offsets[n - 1] != items.shape[0] or (np.diff(places) < 0).any():
            raise ValueError("offsets do not cover the items")
        if len(held) and not (0 <= held.min() and held.max() < size):
            raise ValueError(f"an item is not one of {size}")
        codes = np.empty(0, np.int32) if groups is None else np.asarray(groups)
        if len(codes) not in (0, size) or codes.min(initial=-1) < -1 or codes.max(initial=-1) >= size:
            raise ValueError("groups: a code, or -1, for each item")
        self.offsets, self.items, self.groups, self.size = offsets, items, codes, size
        self.met = np.zeros(max(int(codes.max(initial=-1)) + 1, 1), np.uint32)
        self.turn = 0
        self.acc = np.zeros(max(size, 1), np.float32)
        self.touched = np.empty(LISTED_MAX + WORDS_MAX, np.int32)

    cdef Py_ssize_t lists(self, const int32_t[::1] words, const float[::1] weights, int64_t* begins, int64_t* ends) except -1:
        """Where the lists of the words begin and end; how many words there are."""
        cdef Py_ssize_t j, n = words.shape[0]
        if n > WORDS_MAX or weights.shape[0] != n:
            raise ValueError(f"at most {WORDS_MAX} words, a weight for each")
        for j in range(n):
            if not 0 <= words[j] < self.offsets.shape[0] - 1 or not weights[j] > 0.0:
                raise ValueError("a word is not in the index or has no weight")
            begins[j] = self.offsets[words[j]]
            ends[j] = self.offsets[words[j] + 1]
        return n

    def top(self, const int32_t[::1] words, const float[::1] weights, const uint8_t[::1] allowed, Py_ssize_t k):
        """The k best items with allowed[item] != 0 (uint8 [size]) that hold any of the words: int32 [m], float32 [m].

        words: int32 [at most 16], distinct, rarest first; weights: float32, > 0. Those that hold every word come first,
        then the larger the sum of the weights held the better; ties by item row. k is at most 4096. Of a group the
        best.
        """
        cdef int64_t begins[WORDS_MAX]
        cdef int64_t ends[WORDS_MAX]
        cdef Groups groups
        cdef Py_ssize_t room, j, t, whole, found, n_touched, n = self.lists(words, weights, begins, ends)
        cdef float total = 0.0
        if allowed.shape[0] < self.size:
            raise ValueError("allowed: one entry for each item")
        k = min(k, LISTED_MAX)
        if n == 0 or k <= 0 or self.items.shape[0] == 0:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        # Whatever holds some of the words may be a variant of what holds more of them.
        room = LISTED_MAX if self.groups.shape[0] else k
        groups.of_item = &self.groups[0] if self.groups.shape[0] else NULL
        groups.met = &self.met[0]
        groups.turn = self.turn = next_turn(self.met, self.turn)
        items, scores = np.empty(room, np.int32), np.empty(room, np.float32)
        cdef int32_t[::1] items_view = items
        cdef float[::1] scores_view = scores
        with nogil:
            for j in range(n):
                total += weights[j]
            whole = holding_all(begins, ends, n, &self.items[0], &allowed[0], &groups, k, &items_view[0])
            found = whole
            for t in range(whole):
                scores_view[t] = total
            if whole < k and n > 1:
                # They are there already: whatever is added to this, it stays what it is.
                for t in range(whole):
                    self.touched[t] = items_view[t]
                    self.acc[items_view[t]] = -INFINITY
                n_touched = holding_some(
                    begins, ends, &weights[0], n, &self.items[0], &allowed[0], &groups, &self.acc[0], &self.touched[0],
                    whole,
                )
                found += self.select(n_touched, room - whole, &items_view[whole], &scores_view[whole])
                if groups.of_item != NULL:
                    found = one_of_each(&groups, &items_view[0], &scores_view[0], whole, found, k)
        return items[:found], scores[:found]

    cdef Py_ssize_t select(self, Py_ssize_t n_touched, Py_ssize_t k, int32_t* items, float* scores) noexcept nogil:
        """The k best of the accumulator, best first; it is zero again afterwards."""
        cdef Py_ssize_t t, size = 0
        cdef int32_t item
        for t in range(n_touched):
            item = self.touched[t]
            if self.acc[item] > 0.0:
                size = offer(scores, items, size, k, self.acc[item], item)
            self.acc[item] = 0.0
        finish(scores, items, size)
        return size

    def score(self, const int32_t[::1] words, const float[::1] weights, const int32_t[::1] wanted):
        """The weights of the words that given items hold, summed: float32 [len(wanted)]."""
        cdef int64_t begins[WORDS_MAX]
        cdef int64_t ends[WORDS_MAX]
        cdef int64_t p
        cdef Py_ssize_t i, j, n = self.lists(words, weights, begins, ends)
        scores = np.zeros(wanted.shape[0], np.float32)
        cdef float[::1] view = scores
        for j in range(n):
            for i in range(wanted.shape[0]):
                p = leap(&self.items[0], begins[j], ends[j], wanted[i]) if begins[j] < ends[j] else ends[j]
                if p < ends[j] and self.items[p] == wanted[i]:
                    view[i] += weights[j]
        return scores

    def holding(self, const int32_t[::1] words, const int32_t[::1] wanted):
        """Who of the wanted items holds which of any number of words (-1: not in the index): uint8 [wanted, words]."""
        cdef int64_t p, end
        cdef Py_ssize_t i, j
        held = np.zeros((wanted.shape[0], words.shape[0]), np.uint8)
        cdef uint8_t[:, ::1] view = held
        for j in range(words.shape[0]):
            if not -1 <= words[j] < self.offsets.shape[0] - 1:
                raise ValueError("a word is not in the index")
            if words[j] < 0:
                continue
            end = self.offsets[words[j] + 1]
            for i in range(wanted.shape[0]):
                p = self.offsets[words[j]]
                if p < end:
                    p = leap(&self.items[0], p, end, wanted[i])
                    view[i, j] = p < end and self.items[p] == wanted[i]
        return held
