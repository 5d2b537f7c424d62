"""`recserv tail`: the event log in Redis, as lines of JSON."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import Any

from recserv.config import setting_of
from recserv.config_llm import resolved
from recserv.errors import ConfigError, UsageError
from recserv.types import DEFAULT_TENANT

_TIMEOUTS = {
    "redis_connect_timeout_ms": "for a connection to Redis (150)",
    "redis_write_timeout_ms": "for a batch of the log, to read or to acknowledge it (5000)",
}


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "tail",
        help="print the events of a Redis state as they come in",
        description="Prints the event log of a Redis state, a line of JSON for each event, as one consumer of a group:"
        " every event goes to one consumer of the group, at least once, in the order of its partition.",
    )
    parser.add_argument("--state", metavar="URL", help="as of `recserv serve`; or RECSERV_STATE")
    parser.add_argument("--group", required=True, metavar="NAME", help="name of the consumer group")
    parser.add_argument(
        "--consumer", default=f"tail-{os.getpid()}", metavar="NAME", help="name of this consumer (tail-PID)"
    )
    parser.add_argument("--tenant", default=DEFAULT_TENANT, metavar="NAME", help=f"({DEFAULT_TENANT})")
    parser.add_argument("--once", action="store_true", help="end when there are no more")
    for key, text in _TIMEOUTS.items():
        parser.add_argument("--" + key.replace("_", "-"), metavar="MS", help=f"{text}; or RECSERV_{key.upper()}")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    problems: list[str] = []
    state = resolved("--state", args.state or os.environ.get("RECSERV_STATE", ""), os.environ, problems)
    connect_ms, batch_ms = (setting_of(key, getattr(args, key), os.environ, problems) for key in _TIMEOUTS)
    if state is None or problems:
        raise ConfigError(problems)
    if not state.startswith("redis"):
        raise UsageError("--state: only a Redis state (redis://...) has an event log that others can read")
    from recserv.app.tail import tail, tail_timeouts

    def emit(line: bytes) -> None:
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()

    timeouts = tail_timeouts(connect_ms, batch_ms)
    asyncio.run(tail(state, args.tenant, args.group, args.consumer, emit, once=args.once, timeouts=timeouts))
    return 0
