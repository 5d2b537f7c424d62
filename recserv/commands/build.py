"""`recserv build`: event and catalogue files in, a model directory out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from recserv.commands.data_report import LABEL_WIDTH, check_report, facts_of, finding_lines, write_report
from recserv.commands.mapping_options import add_mapping_options, explain, parse_columns, tables_of
from recserv.errors import UsageError

if TYPE_CHECKING:
    from recserv.training.build import BuildReport
    from recserv.training.ranker import RankerReport


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "build",
        help="build a model from event and catalogue files",
        description="Reads what shoppers did (columns event_type, session_id, item_id and optionally event_id, user_id,"
        " event_time, quantity, value, search_query) and, if there is one, the catalogue (item_id and optionally title,"
        " categories, price, ...). Parquet, CSV or JSON lines, by the name of the file.",
    )
    parser.add_argument("--events", nargs="+", metavar="FILE", help="what shoppers did; a folder stands for its files")
    parser.add_argument("--catalog", metavar="FILE", help="the products; without it they are known by their ids alone")
    parser.add_argument("--out", metavar="MODEL_DIR", help="where the model goes, whole or not at all")
    add_mapping_options(parser)
    parser.add_argument("--default-event-type", metavar="TYPE", help="for rows without an event_type, such as purchase")
    parser.add_argument(
        "--ties",
        choices=("try", "file", "none"),
        default="try",
        help="lines of a basket that share one time: in the order of the file, in none, or try both and keep the safer",
    )
    parser.add_argument("--skip-bad-rows", action="store_true", help="count and report bad rows instead of stopping")
    parser.add_argument(
        "--allow-unknown-items", action="store_true", help="build even if most events' items are not in the catalogue"
    )
    parser.add_argument(
        "--holdout",
        metavar="SHARE|DAY",
        help="keep the newest sessions from the model, such as 5%% of them, or those that ended on 2024-11-25 or later,"
        " and write them as a file for recserv eval",
    )
    parser.add_argument(
        "--holdout-to",
        default="",
        metavar="FILE.tsv",
        help="that file, packed if it ends in .gz (MODEL_DIR.holdout.tsv)",
    )
    parser.add_argument("--report", metavar="FILE.json", help="write what was read and left out to a file")
    parser.add_argument(
        "--explain-mapping", action="store_true", help="print the mapping in force, as TOML, and build nothing"
    )
    parser.add_argument("--dimensions", type=int, default=64, metavar="D", help="of the item vectors (64)")
    parser.add_argument(
        "--epochs", type=float, default=5.0, metavar="N", help="of learning item vectors; may be a fraction (5)"
    )
    parser.add_argument(
        "--rank-examples",
        type=int,
        default=50_000,
        metavar="N",
        help="prefixes of the newest sessions that the ranker learns from; 0 leaves fixed weights (50000)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the same input and seed give the same model")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    columns = parse_columns(args.column)
    from rich.console import Console

    from recserv.commands.progress import progress_bar

    try:
        from recserv.training.build import build
        from recserv.training.options import BuildOptions
        from recserv.training.set_aside import parse_newest
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error.name} is not installed; building needs the extra: pip install 'recserv[build]'"
        ) from error

    table, catalog_table = tables_of(args)
    if args.explain_mapping:
        print(explain(table, catalog_table, columns), end="")
        return 0
    if args.report:
        check_report(args.report)
    if not args.events or not args.out:
        raise UsageError(f"{'--out' if args.events else '--events'} is needed")
    options = BuildOptions(
        events=tuple(args.events),
        out=args.out,
        catalog=args.catalog,
        columns=columns,
        table=table,
        catalog_table=catalog_table,
        allow_unknown_items=args.allow_unknown_items,
        default_event_type=args.default_event_type,
        skip_bad_rows=args.skip_bad_rows,
        ties=args.ties,
        holdout=parse_newest(args.holdout) if args.holdout else None,
        holdout_to=args.holdout_to,
        seed=args.seed,
        dimensions=args.dimensions,
        epochs=args.epochs,
        rank_examples=args.rank_examples,
    )
    with progress_bar(Console(stderr=True), "building") as progress:
        report = build(options, progress)
    if args.report:
        write_report(args.report, report.data)
    print_report(Console(), report)
    return 0


def _ranker_line(ranker: RankerReport | None) -> str:
    if ranker is None:
        return "fixed weights: too few sessions to learn from, or none asked for"
    learned, plain = ranker.learned, ranker.plain
    return (
        f"{'learned' if ranker.chosen else 'fixed weights'} ({ranker.examples:,} lists of the newest sessions, "
        f"{ranker.found:.1%} of the prefixes); of the next items found, validation HR@20 {learned.hit_rate:.3f} "
        f"MRR@20 {learned.reciprocal_rank:.3f}, by fixed weights {plain.hit_rate:.3f} and {plain.reciprocal_rank:.3f}"
    )


def _variants(sizes: tuple[int, ...]) -> list[tuple[str, str]]:
    """Makes visible if a column that is not a group was taken for one."""
    if not sizes:
        return []
    return [("variants", f"{sum(sizes):,} items are variants of {len(sizes):,} products, the largest of {sizes[0]:,}")]


def print_report(console: Any, report: BuildReport) -> None:
    """What went in, what was left out, what came out."""
    facts = facts_of(report.data)
    if report.skipped_rows:
        facts.append(("bad rows", f"{report.skipped_rows:,} bad rows skipped:"))
        facts += [("", line) for line in finding_lines(report.data.bad_rows)]
    facts += [
        ("model", f"{report.out}  (version {report.model_version})"),
        ("events", f"{report.events:,} in {report.sessions:,} sessions, mostly {report.behaviour} items"),
        ("items", f"{report.items:,} in {report.categories:,} categories; {report.items_cold:,} without events"),
        *_variants(report.variants),
        ("ranker", _ranker_line(report.ranker)),
        ("time", f"{report.seconds:.1f} s"),
    ]
    if report.data.holdout is not None:
        facts.append(("next", f"recserv eval --model {report.out} --sessions {report.holdout_file} --report eval.html"))
        facts.append(("", "and, to serve a model that knows the newest sessions too, this build without --holdout"))
    if report.items_without_vector:
        facts.append(("note", f"{report.items_without_vector:,} items have no vector: no events and no description"))
    for label, text in facts:
        console.print(f"{label:<{LABEL_WIDTH}} {text}".rstrip(), markup=False, highlight=False, soft_wrap=True)
