"""Which keys may have a row in the file: a Bloom filter (Bloom 1970), so that a shopper never seen costs no read.

Most shoppers of a spike are new. Without the filter each of them would wait for a thread and a query that find nothing.
A key that was added is always known. One that was not is called known about once in 400 while there are at most as many
keys as the filter was made for, and more often beyond that: then it costs the read that it would have cost anyway.
"""

from __future__ import annotations

PROBES = 4
BITS_PER_KEY = 16
_ROOM_MIN = 1 << 20


class KnownKeys:
    """`expected`: keys that there are already; there is room for as many again, and for a million at least."""

    __slots__ = ("_bits", "_mask")

    def __init__(self, expected: int = 0):
        bits = 1 << ((expected + max(expected, _ROOM_MIN)) * BITS_PER_KEY - 1).bit_length()
        self._mask = bits - 1
        self._bits = bytearray(bits >> 3)

    def add(self, key: str) -> None:
        code = hash(key)
        first, step = code & 0xFFFFFFFF, (code >> 32) | 1
        for probe in range(PROBES):
            bit = (first + probe * step) & self._mask
            self._bits[bit >> 3] |= 1 << (bit & 7)

    def __contains__(self, key: str) -> bool:
        code = hash(key)
        first, step = code & 0xFFFFFFFF, (code >> 32) | 1
        for probe in range(PROBES):
            bit = (first + probe * step) & self._mask
            if not self._bits[bit >> 3] >> (bit & 7) & 1:
                return False
        return True
