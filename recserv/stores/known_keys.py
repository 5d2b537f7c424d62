"""Which keys may have a row in the file: a Bloom filter (Bloom 1970), so that a shopper never seen costs no read.

Most shoppers of a spike are new. Without the filter each of them would wait for a thread and a query that find nothing.
A key that was added is always known. One that was not is called known about once in 400 while there are at most as many
keys as the filter was made for, and more often beyond that: then it costs the read that it would have cost anyway.
"""

from __future__ import annotations

PROBES = 4
BITS_PER_KEY = 16
_ROOM_MIN = 1 << 20
_BYTES_MIN = 64


class KnownKeys:
    """`expected`: keys that there are already; there is room for as many again, and for a million at least, within
    `bytes_max`. Beyond 8 keys a byte it knows hardly anything any more, and every shopper costs a read.
    """

    __slots__ = ("_bits", "_mask")

    def __init__(self, expected: int = 0, bytes_max: int | None = None):
        bits = 1 << ((expected + max(expected, _ROOM_MIN)) * BITS_PER_KEY - 1).bit_length()
        if bytes_max is not None:
            # A power of two.
            bits = min(bits, 1 << (max(bytes_max, _BYTES_MIN) * 8).bit_length() - 1)
        self._mask = bits - 1
        self._bits = bytearray(bits >> 3)

    @property
    def bytes(self) -> int:
        return len(self._bits)

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
