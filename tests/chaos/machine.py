"""How much of the machine somebody else used meanwhile: a latency measured beside that says nothing of the server.

    /proc/stat (all of the machine) - /proc/*/stat (this process and its descendants) -> cores used by others

Time stolen by a hypervisor counts as used by others. So does what a process of ours used that died and was not waited
for.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

OTHERS_CORES_MAX = 0.2
"""A machine of which others use more is not fit to measure latencies of milliseconds."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def machine_busy_s() -> float:
    """Processor seconds since the start of the machine, idle and waiting ones left out."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S


def ours_busy_s() -> float:
    """Processor seconds of this process and all its descendants: those that live, and those that were waited for."""
    parents: dict[int, int] = {}
    used_s: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The name, in brackets, may hold anything.
            words = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended just now
        parents[int(folder.name)] = int(words[1])
        # Its own, and with it that of the children it waited for: utime, stime, cutime, cstime.
        used_s[int(folder.name)] = sum(map(int, words[11:15])) / _TICKS_PER_S
    ours, found = {os.getpid()}, 0
    while len(ours) > found:
        found = len(ours)
        ours |= {pid for pid, parent in parents.items() if parent in ours}
    return sum(used_s.get(pid, 0.0) for pid in ours)


class Others:
    """`cores()`: how many processors others kept busy on average since this was made."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._machine_s, self._ours_s = machine_busy_s(), ours_busy_s()

    def cores(self) -> float:
        elapsed_s = max(1e-9, time.monotonic() - self._began_s)
        others_s = (machine_busy_s() - self._machine_s) - (ours_busy_s() - self._ours_s)
        return max(0.0, others_s / elapsed_s)
