"""`recserv inspect`: what files contain, and how a build would read them."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from recserv.commands.data_report import finding_lines, rules_text
from recserv.commands.mapping_options import add_mapping_options, parse_columns, tables_of
from recserv.errors import UsageError

if TYPE_CHECKING:
    from recserv.training.inspection import Inspection


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="look at event and catalogue files before a build",
        description="Reads the first rows of each file and says what it is: kind, separator, columns, the mapping that"
        " fits, and five events or products as a build would understand them.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="of a folder, its first file")
    add_mapping_options(parser)
    parser.add_argument("--default-event-type", metavar="TYPE", help="for rows without an event_type, such as purchase")
    parser.add_argument("--json", action="store_true", help="one JSON object a file instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        from recserv.training.catalog import CATALOG_COLUMNS
        from recserv.training.dataset import EVENT_COLUMNS
        from recserv.training.files import expand
        from recserv.training.inspection import inspect_file
        from recserv.training.mapping_tables import combined
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error.name} is not installed; inspecting needs the extra: pip install 'recserv[build]'"
        ) from error
    import msgspec

    columns = parse_columns(args.column)
    table, catalog_table = tables_of(args)
    of_events = {name: source for name, source in columns.items() if name in EVENT_COLUMNS}
    of_catalog = {name: source for name, source in columns.items() if name in CATALOG_COLUMNS}
    table = combined(table, of_events, {}, default_event_type=args.default_event_type or "")
    catalog_table = combined(catalog_table, of_catalog, {})
    fine = True
    for number, given in enumerate(args.files):
        found = inspect_file(expand([given])[0], table, catalog_table)
        fine &= bool(found.part)
        if args.json:
            print(msgspec.json.encode(found).decode())
        else:
            print("\n" * bool(number) + "\n".join(lines_of(found)))
    return 0 if fine else 2


def lines_of(found: Inspection) -> list[str]:
    lines = [f"{found.path}: {', '.join((found.kind, *found.details))}; {found.rows:,} rows looked at"]
    width = max((len(column.name) for column in found.columns), default=0)
    for column in found.columns:
        ours = f"-> {column.stands_for}" if column.stands_for else ""
        lines.append(f"  {column.name:<{width}}  {column.filled:>5,} filled  {column.example:<40}  {ours}".rstrip())
    lines += [_verdict(found)]
    for event in found.events:
        when = "" if event.time_ms is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(event.time_ms / 1000))
        lines.append(f"  {when:<19}  {event.event_type:<16}  session {event.session_id}  item {event.item_id}")
    for item in found.items:
        price = f"{item.price:g} {item.currency_code}".strip() if item.price else "no price"
        there = "" if item.available else ", not available"
        lines.append(f"  {item.item_id}  {item.title!r}  {price}{there}  {' | '.join(item.categories)}".rstrip())
    names = [f"{one.name or 'no name'} ({one.taken_as}) {one.count:,}" for one in found.event_names]
    if names:
        lines.append(f"event types: {', '.join(names)}")
    if found.rows_by_rule:
        lines.append(f"rows left out: {rules_text(found.rows_by_rule)}")
    if found.rows_returned:
        lines.append(f"returns: {found.rows_returned:,} rows with a negative quantity, which a build leaves out")
    for label, findings in (("bad rows", found.bad_rows), ("left out", found.values_left_out)):
        lines += [f"{label}:", *finding_lines(findings)] if findings else []
    return lines


def _verdict(found: Inspection) -> str:
    option = "--catalog-mapping" if found.part == "catalog" else "--mapping"
    if not found.part:
        return f"nothing fits: {found.problem}"
    what = "events" if found.part == "events" else "a catalogue"
    by = f" by {option} {found.mapping}" if found.mapping else ""
    others = [name for name in found.fits if name != found.mapping]
    return f"taken for {what}{by}" + (f"; {', '.join(others)} would fit too" if others else "") + ":"
