"""`recserv import`: what users did before the store knew of them, from files into their profiles."""

from __future__ import annotations

import argparse
import asyncio
import os
from typing import TYPE_CHECKING, Any

from recserv.commands.data_report import LABEL_WIDTH, finding_lines, rules_text
from recserv.commands.mapping_options import add_mapping_options, parse_columns, tables_of
from recserv.config import setting_of
from recserv.config_llm import resolved
from recserv.errors import ConfigError, DatasetError, UsageError
from recserv.types import DAY_MS, DEFAULT_TENANT, HOUR_MS

if TYPE_CHECKING:
    from recserv.app.importing import Imported
    from recserv.training.notes import Notes
    from recserv.training.past import Past
    from recserv.training.problems import BadRows, Progress

_CROWDS_SHOWN = 5
_HINTS = {
    "user_id": "; an import is of users: --column user_id=COLUMN says who they are",
    "event_time": "; an import needs to know when: --column event_time=COLUMN",
}


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "import",
        help="give a state the past of its users, from event files",
        description="Reads what users did (columns event_type, user_id, item_id, event_time and optionally session_id,"
        " event_id, quantity, value) into their profiles, as if it had come in live then. An event counts once however"
        " often it is imported: an import that was interrupted is simply started again.",
    )
    parser.add_argument("--events", nargs="+", required=True, metavar="FILE", help="as of `recserv build`")
    parser.add_argument("--state", metavar="STATE", help="as of `recserv serve`; or RECSERV_STATE")
    parser.add_argument(
        "--before", metavar="TIME", help="leave out what happened from then on: since then events come in live"
    )
    parser.add_argument(
        "--id-retention-hours", metavar="HOURS", help="as of `recserv serve` (24); or RECSERV_ID_RETENTION_HOURS"
    )
    parser.add_argument("--tenant", default=DEFAULT_TENANT, metavar="NAME", help=f"({DEFAULT_TENANT})")
    add_mapping_options(parser, catalog=False)
    parser.add_argument("--default-event-type", metavar="TYPE", help="for rows without an event_type, such as purchase")
    parser.add_argument("--skip-bad-rows", action="store_true", help="count and report bad rows instead of stopping")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    state = _state(args.state)
    kept_ms = _id_retention_ms(args.id_retention_hours)
    columns = parse_columns(args.column)
    from rich.console import Console

    from recserv.app.importing import import_past
    from recserv.commands.progress import progress_bar

    try:
        from recserv.training.notes import Notes
        from recserv.training.past import Past
        from recserv.training.problems import BadRows
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error.name} is not installed; importing needs the extra: pip install 'recserv[build]'"
        ) from error
    notes, problems = Notes(), BadRows(args.skip_bad_rows)
    with Past() as past:
        with progress_bar(Console(stderr=True), "importing") as progress:
            _read(args, columns, past, problems, notes, progress)
            done = 0

            def on_events(count: int) -> None:
                nonlocal done
                done += count
                progress("profiles", done, past.rows)

            importing = import_past(state, args.tenant, past.users(), on_events, id_retention_ms=kept_ms)
            imported = asyncio.run(importing)
        print_report(Console(), past, notes, problems, imported)
    return 0


def _id_retention_ms(given: str | None) -> int:
    problems: list[str] = []
    hours = setting_of("id_retention_hours", given, os.environ, problems)
    if problems:
        raise ConfigError(problems)
    return DAY_MS if hours is None else round(hours * HOUR_MS)


def _state(given: str | None) -> str:
    problems: list[str] = []
    state = resolved("--state", given or os.environ.get("RECSERV_STATE", ""), os.environ, problems)
    if state is None:
        raise UsageError(problems[0])
    if not state:
        raise UsageError("--state is needed: embedded:PATH or redis://HOST:PORT/DB, the one that `recserv serve` has")
    if not state.startswith(("embedded:", "redis")) or state == "embedded:":
        # The value is not repeated: a URL of a store may hold a password.
        raise UsageError("--state is neither embedded:PATH nor redis://HOST:PORT")
    return state


def _read(
    args: argparse.Namespace,
    columns: dict[str, str],
    past: Past,
    problems: BadRows,
    notes: Notes,
    progress: Progress,
) -> None:
    from recserv.training.dataset import EVENT_COLUMNS, check_mapping
    from recserv.training.mapped import MissingColumn
    from recserv.training.mapping_fit import hint
    from recserv.training.mapping_tables import combined
    from recserv.training.past import read_past
    from recserv.training.times import parse_time

    check_mapping(columns, EVENT_COLUMNS)
    before_ms = None
    if args.before is not None and (before_ms := parse_time(args.before)) is None:
        raise UsageError(f"--before {args.before}: neither ISO 8601 nor an epoch time")
    table = combined(tables_of(args)[0], columns, {}, default_event_type=args.default_event_type or "")
    try:
        read_past(args.events, past, table, problems, notes, before_ms=before_ms, progress=progress)
    except MissingColumn as error:
        raise error.with_hint(_HINTS.get(error.ours) or hint(error, "events", table.name)) from error
    if not past.rows:
        raise DatasetError(
            args.events[0], f"no row is left to import: {_left_out(past, notes, problems) or 'none good'}"
        )


def _left_out(past: Past, notes: Notes, problems: BadRows) -> str:
    counts = (
        (problems.total, "bad"),
        (notes.rows_blank, "blank"),
        (notes.rows_without_item, "without a product"),
        (notes.rows_ignored, "of types to be ignored"),
        (notes.rows_returned, "returns"),
        (past.without_user, "without a user"),
        (past.too_young, "not before --before"),
        (past.duplicates, "duplicates"),
    )
    found = [f"{count:,} {what}" for count, what in counts if count]
    return "; ".join([*found, *(rules_text([one]) for one in notes.rule_counts() if one.count)])


def print_report(console: Any, past: Past, notes: Notes, problems: BadRows, imported: Imported) -> None:
    """What was read, what of it is new, and what was left out."""
    facts = [("read", f"{notes.rows_read:,} rows of events, {past.rows:,} to import")]
    if left_out := _left_out(past, notes, problems):
        facts.append(("left out", left_out))
    if problems.total:
        facts += [("", line) for line in finding_lines(_findings(problems))]
    facts.append(("profiles", f"{imported.users:,} users gained {imported.added:,} events"))
    if imported.known:
        facts.append(("", f"{imported.known:,} events were stored already and count once"))
    if imported.live:
        text = f"{imported.live:,} recent enough to count as live events, and so in sessions of the last half hour"
        facts.append(("", text))
    if imported.expired:
        facts.append(("", f"{imported.expired:,} events are older than profiles are kept, 400 days: left out"))
    for user, count in past.crowds[:_CROWDS_SHOWN]:
        facts.append(
            ("note", f"user {user!r} has {count:,} events, so it is a placeholder rather than a shopper: left out")
        )
    if imported.crowds:
        facts.append(("note", f"{imported.crowds:,} users have more events than a shopper has: left out"))
    for label, text in facts:
        console.print(f"{label:<{LABEL_WIDTH}} {text}".rstrip(), markup=False, highlight=False, soft_wrap=True)


def _findings(problems: BadRows) -> Any:
    from recserv.training.notes import findings

    return findings(problems.report())
