"""Run as a program: `recserv serve` with an index, a ranker and a wall clock that break on command.

    python -m tests.chaos.chaotic_server ARGUMENTS_OF_SERVE...

Circuit breakers stay open for CHAOS_BREAKER_OPEN_S, if the environment has it, so that a test need not wait for them.

Each line of standard input is a JSON object of what is broken from now on (see `broken_parts.Faults`), `{}` for
nothing; it is answered by a line "broken now ..." once it holds. Its end ends the process.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from msgspec.structs import replace

from recserv import cli
from recserv.app import model as app_model
from recserv.pipeline.engine import Engine
from recserv.resilience.breaker import BreakerSettings, CircuitBreaker
from tests.chaos.broken_parts import BreakableIndex, BreakableRanker, Faults, move_the_clock

DONE = "broken now "
BREAKER_OPEN_S = "CHAOS_BREAKER_OPEN_S"


def obey(faults: Faults) -> None:
    for line in sys.stdin:
        faults.set(**json.loads(line))
        print(DONE + line.strip(), flush=True)
    os._exit(0)


def open_breakers_for(seconds: float) -> None:
    """Every circuit breaker that is made from now on."""
    make = CircuitBreaker.__init__

    def make_quick(self: CircuitBreaker, name: str, settings: BreakerSettings | None = None, **others: Any) -> None:
        make(self, name, replace(settings or BreakerSettings(), wait_duration_in_open_state_s=seconds), **others)

    CircuitBreaker.__init__ = make_quick  # type: ignore[method-assign]


if __name__ == "__main__":
    if BREAKER_OPEN_S in os.environ:
        open_breakers_for(float(os.environ[BREAKER_OPEN_S]))
    shared = Faults()
    move_the_clock(shared)

    def breakable_engine(snapshot: Any, index: Any) -> Engine:
        """What every model of this process serves with, the first one and those that are loaded later."""
        return Engine(snapshot, BreakableIndex(index, shared), BreakableRanker(shared))

    app_model.Engine = breakable_engine  # type: ignore[assignment,misc]
    threading.Thread(target=obey, args=(shared,), daemon=True).start()
    sys.exit(cli.main(["serve", *sys.argv[1:]]))
