"""`recserv tail`: the event log in Redis, as lines of JSON."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import Any

from recserv.config_llm import resolved
from recserv.errors import UsageError
from recserv.types import DEFAULT_TENANT


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "tail",
        help="print the events of a Redis state as they come in",
        description="Prints the event log of a Redis state, a line of JSON for each event, as one consumer of a group:"
        " every event goes to one consumer of the group, at least once, in the order of its partition.",
    )
    parser.add_argument("--state", metavar="URL", help="as of `recserv serve`; or RECSERV_STATE")
    parser.add_argument("--group", required=True, metavar="NAME", help="what this reader and its like are called")
    parser.add_argument("--consumer", default=f"tail-{os.getpid()}", metavar="NAME", help="of this one (tail-PID)")
    parser.add_argument("--tenant", default=DEFAULT_TENANT, metavar="NAME", help=f"({DEFAULT_TENANT})")
    parser.add_argument("--once", action="store_true", help="end when there are no more")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    problems: list[str] = []
    state = resolved("--state", args.state or os.environ.get("RECSERV_STATE", ""), os.environ, problems)
    if state is None:
        raise UsageError(problems[0])
    if not state.startswith("redis"):
        raise UsageError("--state: only a Redis state (redis://...) has an event log that others can read")
    from recserv.app.tail import tail

    def emit(line: bytes) -> None:
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()

    asyncio.run(tail(state, args.tenant, args.group, args.consumer, emit, once=args.once))
    return 0
