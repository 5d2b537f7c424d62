"""`recserv eval`: how well a model guesses the next item, through the pipeline that serves."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recserv.errors import ModelError, UsageError

if TYPE_CHECKING:
    from recserv.evaluation.intervals import Interval
    from recserv.evaluation.metrics import MetricsAt
    from recserv.evaluation.report import EvaluationReport, Progress

K_MAX = 100
# As in recserv.evaluation.ablation, which must not be loaded just to print the help.
EXAMPLES = 12
NAMES = {"covisitation": "co-visitation", "session_knn": "session-kNN", "popular": "popularity"}
_WIDTHS = (6, 7, 7, 7, 8, 7, 9, 9, 7, 7)
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
    where.add_argument("--target", metavar="HOST:PORT", help="evaluate a running server instead")
    parser.add_argument("--sessions", required=True, type=Path, metavar="FILE", help="plain or .gz")
    parser.add_argument("-k", type=int, default=20, metavar="K", help="length of the list (20)")
    parser.add_argument("--only", choices=SOURCES, help="candidates and their order from this source alone")
    parser.add_argument("--without", choices=SOURCES, help="all sources but this one")
    parser.add_argument("--fixed-weights", action="store_true", help="in place of the model's ranker")
    parser.add_argument("--graph", action="store_true", help="search the graph even where lists would do")
    parser.add_argument("--quick", action="store_true", help="the model alone, not each of its sources beside it")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write a self-contained HTML page")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if not 1 <= args.k <= K_MAX:
        raise UsageError(f"-k {args.k}: must be 1 to {K_MAX}")
    if args.target and (args.only or args.without or args.fixed_weights or args.graph):
        raise UsageError(
            "--only, --without, --fixed-weights and --graph need --model: they cannot change a running server"
        )
    _check_files(args)
    from rich.console import Console

    from recserv.commands.progress import progress_bar

    with progress_bar(Console(stderr=True), "evaluating") as progress:
        if args.target:
            report = _through_server(args.target, args.sessions, args.k, progress)
        else:
            report = _through_pipeline(args, progress)
    if args.report:
        from recserv.evaluation.page import page

        _write_page(args.report, page(report))
    if args.json:
        import msgspec

        print(msgspec.json.encode(report).decode())
    else:
        print_report(Console(), report)
        if args.report:
            print(f"written: {args.report}")
    return 0


def _check_files(args: argparse.Namespace) -> None:
    """Before anything is loaded or asked. Raises UsageError."""
    if args.model and not Path(args.model).is_dir():
        raise UsageError(f"--model {args.model}: no such folder; recserv build --out {args.model} makes it")
    if not args.sessions.is_file():
        hint = "recserv build --holdout 5% writes one beside the model"
        raise UsageError(f"--sessions {args.sessions}: no such file; {hint}")
    if args.report and not args.report.absolute().parent.is_dir():
        raise UsageError(f"--report {args.report}: no such folder")


def _write_page(path: Path, content: str) -> None:
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--report {path}: {error.strerror or error}") from error


def _through_pipeline(args: argparse.Namespace, progress: Progress) -> EvaluationReport:
    from recserv.evaluation.ablation import Ablation
    from recserv.evaluation.report import evaluate

    ablation = Ablation(
        only=args.only or "", without=args.without or "", fixed_weights=args.fixed_weights, graph=args.graph
    )
    sources = not args.quick and ablation == Ablation()
    examples = EXAMPLES if args.report else 0
    try:
        return evaluate(Path(args.model), args.sessions, args.k, progress, ablation, sources=sources, examples=examples)
    except ModelError as error:
        raise UsageError(f"model {args.model}: {error}") from error


def _through_server(target: str, sessions: Path, k: int, progress: Progress) -> EvaluationReport:
    from recserv.client import CallFailed, RecommendationClient
    from recserv.commands.query import NOBODY, nobody_there
    from recserv.evaluation.report import evaluate_server

    try:
        with RecommendationClient(target) as client:
            return evaluate_server(client.recommend, sessions, k, progress)
    except CallFailed as error:
        raise UsageError(f"{target}: {error}" + f"; {NOBODY}" * nobody_there(error)) from error


def print_report(console: Any, report: EvaluationReport) -> None:
    from rich.table import Table

    table = Table(title=f"next item, model {report.model_version}", title_justify="left", pad_edge=False)
    table.add_column("targets")
    for name in ("questions", f"HR@{report.k}", f"MRR@{report.k}", f"NDCG@{report.k}"):
        table.add_column(name, justify="right")
    rows = [("all", report.overall), ("new to the session", report.new), ("seen in it before", report.repeats)]
    if report.rare.count:
        rows.append(("in few sessions of the model", report.rare))
    for label, metrics in rows:
        figures = (metrics.hit_rate, metrics.reciprocal_rank, metrics.ndcg)
        table.add_row(label, f"{metrics.count:,}", *[f"{figure:.4f}" for figure in figures])
    console.print(table)
    if report.at:
        for line in _figures(report):
            console.print(line, highlight=False, soft_wrap=True)
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
    if report.seen is not None and not report.seen.warns:
        console.print(report.seen.text, highlight=False, soft_wrap=True, markup=False)
    for warning in report.warnings:
        console.print(warning, style="yellow", highlight=False, soft_wrap=True, markup=False)


def _figures(report: EvaluationReport) -> Iterator[str]:
    """At 5, 10 and 20, with 95 % intervals, beside each source alone; each the same questions by itself."""
    yield f"{report.sessions:,} sessions; ± half of a 95 % interval, which counts sessions"
    head = ("HR@5", "HR@10", "HR@20", "±", "MRR@20", "±", "NDCG@20", "less HR", "±", "shown")
    yield f"{'':<14}" + "".join(f"{name:>{_WIDTHS[at]}}" for at, name in enumerate(head))
    rows: list[tuple[str, tuple[MetricsAt, ...], Interval | None, float]] = [
        (report.label or "all together", report.at, None, report.coverage_20)
    ]
    rows += [(NAMES[one.name], one.at, one.hit_rate_less, one.coverage) for one in report.sources]
    for label, at, less, coverage in rows:
        best = at[-1]
        cells = [f"{one.hit_rate.value:.3f}" for one in at[:-1]]
        cells += [*_within(best.hit_rate), *_within(best.reciprocal_rank), f"{best.ndcg.value:.3f}"]
        cells += [*(("", "") if less is None else _within(less)), f"{coverage:.0%}" if coverage else ""]
        yield f"{label:<14}" + "".join(f"{cell:>{_WIDTHS[number]}}" for number, cell in enumerate(cells))


def _within(interval: Interval) -> tuple[str, str]:
    return _short(interval.value), _short(interval.half)


def _short(value: float) -> str:
    return f"{value:.3f}"
