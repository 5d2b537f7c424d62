"""`recserv eval`: how well a model guesses the next item, through the pipeline that serves."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recserv.errors import ModelError, UsageError

if TYPE_CHECKING:
    from recserv.evaluation.report import EvaluationReport

K_MAX = 100


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "eval",
        help="measure how well a model guesses the next item",
        description="Each line of the sessions file is `prefix item ids (space-separated, oldest first) TAB target item"
        " id`. Every prefix is an anonymous session; all items are candidates; a rank beyond k counts 0.",
    )
    parser.add_argument("--model", required=True, metavar="MODEL_DIR")
    parser.add_argument("--sessions", required=True, type=Path, metavar="FILE", help="plain or .gz")
    parser.add_argument("-k", type=int, default=20, metavar="K", help="length of the list (20)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if not 1 <= args.k <= K_MAX:
        raise UsageError(f"-k {args.k}: must be 1 to {K_MAX}")
    from rich.console import Console

    from recserv.commands.progress import progress_bar
    from recserv.evaluation.report import evaluate

    with progress_bar(Console(stderr=True), "evaluating") as progress:
        try:
            report = evaluate(Path(args.model), args.sessions, args.k, progress)
        except ModelError as error:
            raise UsageError(f"model {args.model}: {error}") from error
    if args.json:
        import msgspec

        print(msgspec.json.encode(report).decode())
    else:
        print_report(Console(), report)
    return 0


def print_report(console: Any, report: EvaluationReport) -> None:
    from rich.table import Table

    table = Table(title=f"next item, model {report.model_version}", title_justify="left", pad_edge=False)
    table.add_column("targets")
    for name in ("sessions", f"HR@{report.k}", f"MRR@{report.k}", f"NDCG@{report.k}"):
        table.add_column(name, justify="right")
    rows = (("all", report.overall), ("new to the session", report.new), ("seen in it before", report.repeats))
    for label, metrics in rows:
        figures = (metrics.hit_rate, metrics.reciprocal_rank, metrics.ndcg)
        table.add_row(label, f"{metrics.count:,}", *[f"{figure:.4f}" for figure in figures])
    console.print(table)
    console.print(
        f"coverage {report.coverage:.1%} of the model's items; one request {report.request_us_median:.0f} us median,"
        f" {report.request_us_p99:.0f} us p99, without a network; {report.seconds:.1f} s in all",
        highlight=False,
        soft_wrap=True,
    )
    if report.degraded:
        console.print(f"{report.degraded:,} answers were degraded", style="yellow", highlight=False)
