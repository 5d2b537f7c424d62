"""`recserv bench`: load on a server of this machine, reported beside a handler that does nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress

from recserv.bench.compare import ROUNDS, compare
from recserv.bench.load import LoadFailed, LoadOptions, check_options
from recserv.bench.report import as_json, print_report
from recserv.bench.requests import bodies, made_up_prefixes, prefixes_of_file
from recserv.client import CallFailed, RecommendationClient
from recserv.commands.query import NOBODY, nobody_there
from recserv.types import PAGE_SIZE_DEFAULT


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure a running server beside a null handler",
        description="Sends Recommend calls to a server on this machine and, in turns, to a handler that does nothing. "
        "Without --rate a closed loop (each caller waits for its answer), with --rate an open loop: requests are sent "
        "when they are due, and latency counts from then.",
    )
    parser.add_argument("--target", required=True, metavar="HOST:PORT", help="a loopback address")
    parser.add_argument("--requests", type=int, default=2000, metavar="N", help="calls to each of the two (2000)")
    parser.add_argument(
        "--duration", type=float, default=60.0, metavar="S", help="for at most this many seconds each (60)"
    )
    parser.add_argument("--concurrency", type=int, default=1, metavar="C", help="calls outstanding at most (1)")
    parser.add_argument("--connections", type=int, metavar="N", help="default: one for each 8 of --concurrency")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="processes that make the load (1)")
    parser.add_argument("--rate", type=float, metavar="R", help="calls per second: open loop")
    parser.add_argument("--poisson", action="store_true", help="an open loop's arrivals as a Poisson process, not even")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the Poisson arrivals (1)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S", help="deadline of a call (5)")
    parser.add_argument("--count", type=int, default=PAGE_SIZE_DEFAULT, metavar="N", help="products asked for (10)")
    parser.add_argument(
        "--sessions", type=Path, metavar="FILE", help="contexts: `prefix TAB target` lines, plain or .gz"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    console, errors = Console(), Console(stderr=True)
    connections = args.connections or max(args.processes, -(-args.concurrency // 8))
    options = LoadOptions(
        target=args.target,
        bodies=(),
        requests=args.requests,
        duration_s=args.duration,
        concurrency=args.concurrency,
        connections=connections,
        processes=args.processes,
        rate_per_s=args.rate,
        timeout_s=args.timeout,
        poisson=args.poisson,
        seed=args.seed,
    )
    # Checked before anything is sent.
    check_options(options)
    try:
        prefixes = prefixes_of_file(args.sessions) if args.sessions else _made_up(args.target, args.timeout)
        with Progress(console=errors, transient=True) as progress:
            task = progress.add_task("measuring in turns", total=ROUNDS)
            comparison = compare(
                msgspec.structs.replace(options, bodies=bodies(prefixes, args.count)),
                on_round=lambda done: progress.update(task, completed=done),
            )
    except (CallFailed, LoadFailed) as error:
        hint = f"; {NOBODY}" if isinstance(error, CallFailed) and nobody_there(error) else ""
        errors.print(f"recserv bench: {error}{hint}", markup=False, soft_wrap=True)
        return 1
    if args.json:
        print(as_json(comparison).decode())
    else:
        print_report(console, comparison)
    return 0 if comparison.target.succeeded > 0 and comparison.target.failed == 0 else 1


def _made_up(target: str, timeout_s: float) -> list[list[str]]:
    with RecommendationClient(target, timeout_s) as client:
        return made_up_prefixes(client)
