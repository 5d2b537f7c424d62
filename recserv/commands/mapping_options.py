"""The options that say what the columns and words of files mean, of `recserv build` and `recserv inspect`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recserv.errors import UsageError

if TYPE_CHECKING:
    from recserv.training.mapping_tables import TableMapping

_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_NEEDED = ("item_id", "session_id")
_DECIMALS = {"comma": ",", ",": ",", "point": ".", ".": "."}


def add_mapping_options(parser: Any, *, catalog: bool = True) -> None:
    """`catalog`: those of a catalogue too."""
    parser.add_argument(
        "--mapping",
        metavar="NAME",
        help="how the event files name things: ga4, google-retail, online-retail, otto, personalize, rees46,"
        " retailrocket, segment, shopify-orders, taobao, or FILE.toml",
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="a column of the files that stands for one of recserv's, such as item_id=StockCode; an empty one leaves"
        " it out; may be repeated",
    )
    parser.set_defaults(catalog_mapping=None, catalog_column=[])
    if catalog:
        _add_catalog_options(parser)
    parser.add_argument(
        "--event-type",
        action="append",
        default=[],
        metavar="NAME=TYPE",
        help="what an event's name means, such as fav=click, or fav=ignore; may be repeated",
    )
    parser.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="RULE",
        help="rows of events that are none: 'Quantity <= 0' (returns), 'Invoice ~ ^C' (a regular expression),"
        " 'Country = Test'; may be repeated",
    )
    parser.add_argument("--delimiter", metavar="SIGN", help="between columns: a character, or tab (found out)")
    parser.add_argument("--decimal", choices=sorted(_DECIMALS), help="the decimal sign (seen from the column)")
    parser.add_argument(
        "--time-format",
        metavar="FORMAT",
        help="how event times are written: seconds, milliseconds, microseconds or nanoseconds, or a format such as"
        " '%%d.%%m.%%Y %%H:%%M' of %%Y %%y %%m %%b %%d %%H %%I %%p %%M %%S %%f %%z (found out where there is but one"
        " way to read them)",
    )
    parser.add_argument("--encoding", metavar="NAME", help="of text that is neither UTF-8 nor UTF-16: windows-1252")
    parser.add_argument("--quotes", choices=("on", "off"), help="whether quotation marks enclose values (found out)")


def _add_catalog_options(parser: Any) -> None:
    parser.add_argument(
        "--catalog-mapping",
        metavar="NAME",
        help="the same of the catalogue: personalize, woocommerce, merchant-feed, shopify-products, google-retail,"
        " online-retail, or FILE.toml",
    )
    parser.add_argument(
        "--catalog-column", action="append", default=[], metavar="NAME=COLUMN", help="the same, of the catalogue alone"
    )


def parse_columns(given: Sequence[str], option: str = "--column") -> dict[str, str]:
    """`NAME=COLUMN` strings -> {NAME: COLUMN}; an empty COLUMN: not read. Raises UsageError."""
    columns: dict[str, str] = {}
    for pair in given:
        name, equals, column = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} {pair}: expected NAME=COLUMN")
        if not column and name in _NEEDED:
            raise UsageError(f"{option} {pair}: {name} cannot be left out")
        if name in columns:
            raise UsageError(f"{option} {pair}: {name} is given twice")
        columns[name] = column
    return columns


def tables_of(args: argparse.Namespace) -> tuple[TableMapping, TableMapping]:
    """Of the events and of the catalogue, without `--column`. Raises UsageError."""
    from recserv.training.catalog import CATALOG_COLUMNS
    from recserv.training.dataset import check_mapping
    from recserv.training.event_names import parse_event_types
    from recserv.training.mapping_fit import load_mapping
    from recserv.training.mapping_tables import TableMapping, combined

    read = {
        "delimiter": _DELIMITERS.get(args.delimiter, args.delimiter),
        "decimal": _DECIMALS.get(args.decimal),
        "encoding": args.encoding,
        "quotes": None if args.quotes is None else args.quotes == "on",
    }
    catalog_columns = parse_columns(args.catalog_column, "--catalog-column")
    check_mapping(catalog_columns, CATALOG_COLUMNS, "--catalog-column")
    events = load_mapping(args.mapping, "events") if args.mapping else TableMapping()
    catalog = load_mapping(args.catalog_mapping, "catalog") if args.catalog_mapping else TableMapping()
    leave_out = (*events.read.leave_out, *args.leave_out)
    return (
        combined(events, {}, parse_event_types(args.event_type), **read, leave_out=leave_out, time=args.time_format),
        combined(catalog, catalog_columns, {}, **read),
    )


def explain(events: TableMapping, catalog: TableMapping, columns: Mapping[str, str]) -> str:
    """Both mappings as TOML, with what `--column` says."""
    from recserv.training.catalog import CATALOG_COLUMNS
    from recserv.training.dataset import EVENT_COLUMNS
    from recserv.training.mapping_tables import combined, explained

    of_events = {name: source for name, source in columns.items() if name in EVENT_COLUMNS}
    of_catalog = {name: source for name, source in columns.items() if name in CATALOG_COLUMNS}
    of_catalog = {name: source for name, source in of_catalog.items() if name not in catalog.told}
    return "\n".join(
        (
            explained(combined(events, of_events, {}), "events", EVENT_COLUMNS),
            explained(combined(catalog, of_catalog, {}), "catalog", CATALOG_COLUMNS),
        )
    )
