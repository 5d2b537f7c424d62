"""`recserv dashboard`: a Grafana dashboard, Prometheus rules and a scrape configuration, as files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from recserv.errors import UsageError

_NAMES = ("grafana", "alerts", "prometheus")


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "dashboard",
        help="write a Grafana dashboard and Prometheus alerts",
        description="Writes DIR/grafana/recserv.json (import it into Grafana 10.4 or newer), DIR/prometheus/alerts.yml"
        " (recording rules and alerts) and DIR/prometheus/prometheus.yml (a scrape configuration to start from), or"
        " prints one of them.",
    )
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument(
        "--out", metavar="DIR", type=Path, help="where to write them; files of these names are replaced"
    )
    chosen.add_argument("--print", choices=_NAMES, help="one of them, to standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from recserv.dashboard import FILES

    if args.out is None:
        sys.stdout.write(FILES[args.print][1]())
        return 0
    for name, text_of in FILES.values():
        path = args.out / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text_of(), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}; see --out") from error
        print(path)
    return 0
