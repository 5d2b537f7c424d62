"""Packed sessions (recserv/stores/packed.py), read where they lie: no Python object for an event.

    scan_session     bytes -> how many events are visible, the newest sequence; ValueError for what is not whole
    session_columns  bytes -> kind, age and item row of every visible event; texts of its searches
    ItemLookup       item id as UTF-8 -> item row: open addressing over FNV-1a (Fowler, Noll, Vo), at most half full

The layout is little-endian, and so are the machines that this is compiled for; a check at import says so. The oracle is
the decoder in Python.
"""

import sys

from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t
from libc.string cimport memcmp, memcpy

import numpy as np

if sys.byteorder != "little":
    raise ImportError("packed sessions are little-endian; this machine is not")

cdef enum:
    LAYOUT = 1
    HEAD_BYTES = 28
    RECORD_BYTES_MIN = 30
    DETAIL_BYTES = 24
    HAS_DETAILS = 1
    HAS_QUERY = 2
    EVENTS_MAX = 100

cdef struct Record:
    uint8_t kind
    int64_t time_ms
    int64_t arrival_ms
    const char* item
    Py_ssize_t item_bytes
    const char* query
    Py_ssize_t query_bytes


cdef inline uint16_t length_at(const char* data) noexcept nogil:
    cdef uint16_t value
    memcpy(&value, data, 2)
    return value


cdef Py_ssize_t read_record(const char* data, Py_ssize_t at, Py_ssize_t end, Record* out) noexcept nogil:
    """Where the next record begins; -1 if this one is not whole or not of the size that it says."""
    cdef Py_ssize_t size, place
    cdef uint8_t flags
    cdef double value
    if end - at < RECORD_BYTES_MIN:
        return -1
    size = length_at(data + at)
    if size < RECORD_BYTES_MIN or size > end - at:
        return -1
    out.kind = <uint8_t>data[at + 2]
    flags = <uint8_t>data[at + 3]
    memcpy(&out.time_ms, data + at + 4, 8)
    memcpy(&out.arrival_ms, data + at + 12, 8)
    out.item_bytes = length_at(data + at + 28)
    out.item = data + at + RECORD_BYTES_MIN
    place = RECORD_BYTES_MIN + out.item_bytes
    out.query = NULL
    out.query_bytes = 0
    if flags & HAS_DETAILS:
        if place + DETAIL_BYTES > size:
            return -1
        memcpy(&value, data + at + place + 8, 8)
        if not isfinite(value):
            return -1
        place += DETAIL_BYTES
    if flags & HAS_QUERY:
        if place + 2 > size:
            return -1
        out.query_bytes = length_at(data + at + place)
        out.query = data + at + place + 2
        place += 2 + out.query_bytes
    if place != size or flags > HAS_DETAILS + HAS_QUERY:
        return -1
    return at + size


cdef bint is_ascii(const char* data, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        if <uint8_t>data[i] >= 128:
            return False
    return True


cdef int check_text(const char* data, Py_ssize_t size) except -1:
    """Raises UnicodeDecodeError, a ValueError, for what is not UTF-8."""
    if not is_ascii(data, size):
        data[:size].decode("utf-8")
    return 0


def scan_session(bytes packed not None, int64_t horizon_ms):
    """(events that arrived after `horizon_ms`, newest sequence ever put in). Raises ValueError for what is not whole.

    Of more than EVENTS_MAX records the last ones count.
    """
    cdef const char* data = packed
    cdef Py_ssize_t end = len(packed), at = HEAD_BYTES, left, visible = 0
    cdef uint64_t newest
    cdef Record record
    if end < HEAD_BYTES or <uint8_t>data[0] != LAYOUT:
        raise ValueError("no session of this layout")
    left = length_at(data + 2)
    memcpy(&newest, data + 4, 8)
    while left:
        at = read_record(data, at, end, &record)
        if at < 0:
            raise ValueError("a record that is not whole")
        check_text(record.item, record.item_bytes)
        check_text(record.query, record.query_bytes)
        visible += left <= EVENTS_MAX and record.arrival_ms > horizon_ms
        left -= 1
    if at != end:
        raise ValueError(f"{end - at} bytes too many")
    return visible, newest


cdef uint64_t fnv1a(const char* data, Py_ssize_t size) noexcept nogil:
    cdef uint64_t value = 14695981039346656037ULL
    cdef Py_ssize_t i
    for i in range(size):
        value = (value ^ <uint8_t>data[i]) * 1099511628211ULL
    return value ^ (value >> 32)


cdef int32_t find(
    const char* data, Py_ssize_t size, const char* ids, const int64_t* offsets, const int32_t* slots, uint64_t mask,
) noexcept nogil:
    """The row of an id, or -1. There is always a free slot, so the search ends."""
    cdef uint64_t slot = fnv1a(data, size) & mask
    cdef int32_t item_row = slots[slot]
    while item_row >= 0:
        if offsets[item_row + 1] - offsets[item_row] == size and not memcmp(ids + offsets[item_row], data, size):
            return item_row
        slot = (slot + 1) & mask
        item_row = slots[slot]
    return -1


cdef class ItemLookup:
    """Rows of the ids of a model, 0..n-1 in the order given; the ids are distinct."""

    cdef bytes _ids
    cdef int64_t[::1] _offsets
    cdef int32_t[::1] _slots
    cdef uint64_t _mask

    def __init__(self, ids):
        cdef Py_ssize_t n, item_row
        cdef uint64_t slot
        cdef const char* data
        encoded = [item_id.encode() for item_id in ids]
        n = len(encoded)
        offsets = np.zeros(n + 1, np.int64)
        np.cumsum([len(item) for item in encoded], out=offsets[1:])
        self._ids = b"".join(encoded)
        self._offsets = offsets
        self._mask = (1 << max(n, 1).bit_length() + 1) - 1
        self._slots = np.full(self._mask + 1, -1, np.int32)
        data = self._ids
        for item_row in range(n):
            slot = fnv1a(data + self._offsets[item_row], self._offsets[item_row + 1] - self._offsets[item_row])
            slot &= self._mask
            while self._slots[slot] >= 0:
                slot = (slot + 1) & self._mask
            self._slots[slot] = <int32_t>item_row

    def row(self, str item_id not None):
        """-1 for an id that is not there."""
        cdef bytes data = item_id.encode()
        return find(data, len(data), self._ids, &self._offsets[0], &self._slots[0], self._mask)


def session_columns(
    bytes packed not None, int64_t horizon_ms, int64_t now_ms, const uint8_t[::1] wanted not None,
    ItemLookup lookup not None,
):
    """Those of the last EVENTS_MAX events that arrived after `horizon_ms` and whose kind is wanted, oldest first.

    wanted: uint8 [256], by kind. Returns kinds: uint8 [n]; ages_s: float32 [n], not negative; item_rows: int32 [n], -1
    where the model does not know the item; texts: {place in the columns: search query}. Raises ValueError for what
    `scan_session` would not accept, and if `wanted` is too short.
    """
    cdef const char* data = packed
    cdef Py_ssize_t end = len(packed), at = HEAD_BYTES, n = 0, left
    cdef int64_t age_ms
    cdef Record record
    cdef const char* ids = lookup._ids
    if end < HEAD_BYTES or <uint8_t>data[0] != LAYOUT:
        raise ValueError("no session of this layout")
    if wanted.shape[0] < 256:
        raise ValueError("wanted has less than 256 entries")
    left = length_at(data + 2)
    kinds = np.empty(left, np.uint8)
    ages_s = np.empty(left, np.float32)
    item_rows = np.empty(left, np.int32)
    cdef uint8_t[::1] kind_of = kinds
    cdef float[::1] age_of = ages_s
    cdef int32_t[::1] row_of = item_rows
    texts = {}
    while left:
        at = read_record(data, at, end, &record)
        if at < 0:
            raise ValueError("a record that is not whole")
        left -= 1
        if left >= EVENTS_MAX or record.arrival_ms <= horizon_ms or not wanted[record.kind]:
            continue
        kind_of[n] = record.kind
        age_ms = now_ms - record.time_ms
        age_of[n] = <float>((age_ms if age_ms > 0 else 0) / 1000.0)
        row_of[n] = find(
            record.item, record.item_bytes, ids, &lookup._offsets[0], &lookup._slots[0], lookup._mask
        )
        if record.query_bytes:
            texts[n] = record.query[:record.query_bytes].decode("utf-8")
        n += 1
    return kinds[:n], ages_s[:n], item_rows[:n], texts
