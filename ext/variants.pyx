"""Variants of one product (sizes, colours): at most one of a group is shown on a page.

Free of any ranking: who asks brings the order, and the first of each group in it stands for the group.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

import numpy as np

from stamps cimport next_turn


cdef class Variants:
    """groups: int32 [n], the group of each item, -1 for an item on its own. Holds the members of each group. One thread at a
    time. Raises ValueError.
    """

    cdef const int32_t[::1] groups
    cdef const int64_t[::1] offsets
    cdef const int32_t[::1] members
    cdef uint32_t[::1] seen
    cdef uint32_t turn

    def __init__(self, const int32_t[::1] groups not None):
        codes = np.asarray(groups)
        if codes.min(initial=0) < -1:
            raise ValueError("groups: a code below -1")
        count = int(codes.max(initial=-1)) + 1
        if count > len(codes):
            raise ValueError("groups: more groups than items")
        grouped = np.flatnonzero(codes >= 0).astype(np.int32)
        self.groups = groups
        self.members = grouped[np.argsort(codes[grouped], kind="stable")]
        self.offsets = np.concatenate(([0], np.cumsum(np.bincount(codes[grouped], minlength=count)))).astype(np.int64)
        self.seen = np.zeros(max(count, 1), np.uint32)
        self.turn = 0

    cdef check(self, str name, const int32_t[::1] items):
        cdef Py_ssize_t i
        for i in range(items.shape[0]):
            if not 0 <= items[i] < self.groups.shape[0]:
                raise ValueError(f"{name}: {items[i]} is not an item")

    def first(
        self, const int32_t[::1] items not None, Py_ssize_t k, *, const uint8_t[::1] allowed=None,
        const int32_t[::1] taken=None,
    ):
        """The places in `items` (int32 [m]) of those that come first of their groups: int32 [at most k], ascending.

        With `allowed` (uint8 [n]) of those that may be shown; without the groups of `taken` (int32).
        """
        cdef Py_ssize_t i, size = 0
        cdef int32_t group
        self.check("items", items)
        if allowed is not None and allowed.shape[0] != self.groups.shape[0]:
            raise ValueError("allowed: one entry for each item")
        self.turn = next_turn(self.seen, self.turn)
        if taken is not None:
            self.check("taken", taken)
            for i in range(taken.shape[0]):
                group = self.groups[taken[i]]
                if group >= 0:
                    self.seen[group] = self.turn
        rows = np.empty(max(min(k, items.shape[0]), 0), np.int32)
        cdef int32_t[::1] view = rows
        for i in range(items.shape[0]):
            if size == view.shape[0]:
                break
            if allowed is not None and not allowed[items[i]]:
                continue
            group = self.groups[items[i]]
            if group >= 0:
                if self.seen[group] == self.turn:
                    continue
                self.seen[group] = self.turn
            view[size] = <int32_t>i
            size += 1
        return rows[:size]

    def with_siblings(self, const int32_t[::1] items not None):
        """`items` (int32 [m], distinct) without groups, and all members of the groups of the others: int32, distinct."""
        cdef Py_ssize_t i, size = 0
        cdef int64_t p
        cdef int32_t group
        self.check("items", items)
        self.turn = next_turn(self.seen, self.turn)
        for i in range(items.shape[0]):
            group = self.groups[items[i]]
            if group < 0:
                size += 1
            elif self.seen[group] != self.turn:
                self.seen[group] = self.turn
                size += self.offsets[group + 1] - self.offsets[group]
        found = np.empty(size, np.int32)
        cdef int32_t[::1] view = found
        self.turn = next_turn(self.seen, self.turn)
        size = 0
        for i in range(items.shape[0]):
            group = self.groups[items[i]]
            if group < 0:
                view[size] = items[i]
                size += 1
            elif self.seen[group] != self.turn:
                self.seen[group] = self.turn
                for p in range(self.offsets[group], self.offsets[group + 1]):
                    view[size] = self.members[p]
                    size += 1
        return found
