"""`recserv eval`: how well a model guesses the next item, through the pipeline that serves."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recserv.errors import ModelError, UsageError

if TYPE_CHECKING:
    from recserv.evaluation.report import EvaluationReport, Progress

K_MAX = 100
# As in recserv.evaluation.ablation, which must not be loaded just to print the help.
SOURCES = ("search", "covisitation", "session_knn", "popular")


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "eval",
        help="measure how well a model guesses the next item",
        description="Each line of the sessions file is `prefix item ids (space-separated, oldest first) TAB target item"
        " id`. Every prefix is an anonymous session; all items are candidates; a rank beyond k counts 0.",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--model", metavar="MODEL_DIR")
    where.add_argument("--target", metavar="HOST:PORT", help="of a running server, which is then asked instead")
    parser.add_argument("--sessions", required=True, type=Path, metavar="FILE", help="plain or .gz")
    parser.add_argument("-k", type=int, default=20, metavar="K", help="length of the list (20)")
    parser.add_argument("--only", choices=SOURCES, help="candidates and their order from this source alone")
    parser.add_argument("--without", choices=SOURCES, help="all sources but this one")
    parser.add_argument("--fixed-weights", action="store_true", help="in place of the model's ranker")
    parser.add_argument("--graph", action="store_true", help="search the graph even where lists would do")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if not 1 <= args.k <= K_MAX:
        raise UsageError(f"-k {args.k}: must be 1 to {K_MAX}")
    if args.target and (args.only or args.without or args.fixed_weights or args.graph):
        raise UsageError("--only, --without, --fixed-weights and --graph need --model: a server serves what it serves")
    from rich.console import Console

    from recserv.commands.progress import progress_bar

    with progress_bar(Console(stderr=True), "evaluating") as progress:
        if args.target:
            report = _through_server(args.target, args.sessions, args.k, progress)
        else:
            report = _through_pipeline(args, progress)
    if args.json:
        import msgspec

        print(msgspec.json.encode(report).decode())
    else:
        print_report(Console(), report)
    return 0


def _through_pipeline(args: argparse.Namespace, progress: Progress) -> EvaluationReport:
    from recserv.evaluation.ablation import Ablation
    from recserv.evaluation.report import evaluate

    ablation = Ablation(
        only=args.only or "", without=args.without or "", fixed_weights=args.fixed_weights, graph=args.graph
    )
    try:
        return evaluate(Path(args.model), args.sessions, args.k, progress, ablation)
    except ModelError as error:
        raise UsageError(f"model {args.model}: {error}") from error


def _through_server(target: str, sessions: Path, k: int, progress: Progress) -> EvaluationReport:
    from recserv.client import CallFailed, RecommendationClient
    from recserv.evaluation.report import evaluate_server

    try:
        with RecommendationClient(target) as client:
            return evaluate_server(client.recommend, sessions, k, progress)
    except CallFailed as error:
        raise UsageError(f"{target}: {error}") from error


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
    shown = (
        f"coverage {report.coverage:.1%} of the model's items" if report.coverage else f"{report.shown:,} items shown"
    )
    where = (
        "through the server"
        if not report.engine_us_median
        else (f"without a network, of it {report.engine_us_median:.0f} us search, sources and ranking")
    )
    console.print(
        f"{shown}; one request {report.request_us_median:.0f} us median, {report.request_us_p99:.0f} us p99, {where};"
        f" {report.seconds:.1f} s in all",
        highlight=False,
        soft_wrap=True,
    )
    if report.unknown_targets:
        share = report.unknown_targets / report.overall.count
        console.print(f"{report.unknown_targets:,} targets ({share:.1%}) are no items of the model", highlight=False)
    if report.degraded:
        console.print(f"{report.degraded:,} answers were degraded", style="yellow", highlight=False)
