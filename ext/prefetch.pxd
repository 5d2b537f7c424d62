"""A hint to fetch memory that a loop will touch soon.

The model is far larger than the caches, and candidates lie all over it: without the hint, features of 250 candidates wait
for some thousand reads of main memory one after the other.
"""

cdef extern from *:
    void prefetch "__builtin_prefetch" (const void* address) noexcept nogil
