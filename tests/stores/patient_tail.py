"""Run as a program: `recserv tail` that waits for Redis as long as tests do, for which it has no setting.

python -m tests.stores.patient_tail ARGUMENTS_OF_TAIL...
"""

from __future__ import annotations

import functools
import sys

from recserv import cli
from recserv.app import tail
from tests.stores.redis_support import PATIENT

if __name__ == "__main__":
    tail.RedisLogTail = functools.partial(tail.RedisLogTail, timeouts=PATIENT)  # type: ignore[assignment,misc]
    sys.exit(cli.main(["tail", *sys.argv[1:]]))
