"""How many files, and so connections, this process may have open.

The usual soft limit of 1024 is there for programs that call select(); nothing here does. A server that kept it would
leave the next thousand callers waiting unanswered, so it goes as far as the hard limit lets it, as Go's programs and
nginx do.
"""

from __future__ import annotations

import contextlib
import sys


def raise_open_files() -> int:
    """The soft limit becomes the hard one, for this process and those it starts. Gives what holds from now on."""
    if sys.platform == "win32":
        return sys.maxsize
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS refuses what is above the kernel's own limit, also where it calls the hard one infinite.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
