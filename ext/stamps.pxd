"""What was seen in this turn, for scratch that need not be cleaned between turns: an entry counts if it is the turn's number."""

from libc.stdint cimport uint32_t


cdef inline uint32_t next_turn(uint32_t[::1] seen, uint32_t turn) noexcept:
    """The number of the turn after `turn`."""
    turn += 1
    if turn == 0:
        # The counter went once around: stamps of long ago would look like today's.
        seen[:] = 0
        turn = 1
    return turn
