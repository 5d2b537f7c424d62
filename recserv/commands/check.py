"""`recserv check`: what is in a model, and whether it is whole."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from recserv.commands.data_report import facts_of, finding_lines

if TYPE_CHECKING:
    from recserv.model.check import ModelReport


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "check",
        help="verify a model and show what is in it",
        description="Verifies every file of a model. Exit code 0 if it is whole, 2 if not.",
    )
    parser.add_argument("model", metavar="MODEL_DIR")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from recserv.model.check import describe

    report = describe(args.model)
    if args.json:
        import msgspec

        print(msgspec.json.encode(report).decode())
    elif report.whole:
        for label, text in _facts(report):
            print(f"{label:<12} {text}")
    else:
        place = f"{report.path}: {report.problem_file}" if report.problem_file else report.path
        print(f"recserv check: {place}: {report.problem}", file=sys.stderr)
    return 0 if report.whole else 2


def _facts(report: ModelReport) -> list[tuple[str, str]]:
    training = report.training
    without = report.items - report.items_from_behaviour - report.items_from_content
    origins = f"{report.items_from_behaviour:,} from behaviour, {report.items_from_content:,} from content"
    vectors = f"{report.dimensions} dimensions; {origins}, {without:,} items without"
    events = f"{training.events:,} events in {training.sessions:,} sessions, mostly {report.behaviour} items"
    facts = [
        ("model", f"{report.path}: whole"),
        ("version", f"{report.version}, format {report.format_version}"),
        ("built", f"{_utc(report.built_at_ms)}, {_age(report.age_s)} ago"),
        ("items", f"{report.items:,}, {report.items_available:,} available, in {report.categories:,} categories"),
        ("vectors", vectors),
        ("index", "HNSW" if report.has_index else "none: the other sources answer"),
        ("neighbours", f"{report.neighbours:,} co-visitation pairs, {report.sessions:,} sessions for session-kNN"),
        ("trained on", events),
    ]
    if training.first_event_ms is not None and training.last_event_ms is not None:
        facts.append(("", f"from {_utc(training.first_event_ms)} to {_utc(training.last_event_ms)}"))
    if report.data is not None:
        facts += facts_of(report.data)
    if training.skipped_rows:
        facts.append(("", f"{training.skipped_rows:,} bad rows were skipped"))
        facts += [("", line) for line in finding_lines(report.data.bad_rows if report.data else ())]
    facts.append(("size", f"{_size(report.size_bytes)} in {len(report.files)} files"))
    facts += [("", f"{_size(file.size_bytes):>9}  {file.name}") for file in report.files]
    return facts


def _utc(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(time_ms / 1000))


def _age(seconds: float) -> str:
    for unit, length_s in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} seconds"


def _size(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"
