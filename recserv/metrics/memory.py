"""What a process holds, as its allocators count it: resident memory also has what they keep of what was given back.

    Python's allocator   blocks in use: objects of up to 512 bytes
    the C library's      bytes in use: larger objects, arrays, gRPC, SQLite

Where resident memory grows and these do not, memory is fragmented, not leaked.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

python_blocks: Callable[[], int] = sys.getallocatedblocks


class _MallInfo2(ctypes.Structure):
    """`struct mallinfo2` of mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def malloc_counter() -> Callable[[], int] | None:
    """Tells the bytes in use of the C library's allocator, over all its arenas; None where it does not count them
    (glibc does from 2.33 on).
    """
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return None
    mallinfo2.restype, mallinfo2.argtypes = _MallInfo2, ()

    def in_use() -> int:
        found = mallinfo2()
        return int(found.uordblks + found.hblkhd)

    return in_use
