"""`recserv import` that ends itself with SIGKILL in the middle: arguments WHERE COUNT, then those of the command.

WHERE `between`: after so many batches; `within`: after so many profiles, the others of their batch unwritten or, in the
embedded store, not committed.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from recserv import cli
from recserv.app import importing
from recserv.stores import sqlite_past
from recserv.stores.redis_past import RedisPasts


def dying(call: Any, count: int) -> Any:
    left = [count]

    def counted() -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    async def later(*given: Any, **options: Any) -> Any:
        result = await call(*given, **options)
        counted()
        return result

    def now(*given: Any, **options: Any) -> Any:
        result = call(*given, **options)
        counted()
        return result

    return now if call is sqlite_past.fold else later


def main(where: str, count: int, command: list[str]) -> int:
    importing.USERS_A_BATCH = 3
    if where == "between":
        importing.Importer.take = dying(importing.Importer.take, count)  # type: ignore[method-assign]
    else:
        RedisPasts._once = dying(RedisPasts._once, count)  # type: ignore[method-assign]
        sqlite_past.fold = dying(sqlite_past.fold, count)  # type: ignore[attr-defined]
    return cli.main(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
