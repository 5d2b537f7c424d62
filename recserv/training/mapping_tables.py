"""Mappings: tables that say how an export names things. Those of `recserv/mappings/` have names, others are files.

    NAME or FILE.toml -> Tables (one for events, one for a catalogue) -> + what was told by hand -> TableMapping
    -> Wanted (`mapped`), EventNames, and how values are written

A table, all of it optional:

    [events]
    event_type = "event_name"             # our column = the file's: a name in any case, a path (`paths`), or several,
    item_id = ["items[].item_id", "sku"]  # the best first
    [events.read]
    default_event_type = "purchase"       # of rows that name none
    time = "microseconds"                 # the unit of numbers (seconds, milliseconds, nanoseconds; auto: by size), or
                                          # how text is written: "%d.%m.%Y %H:%M" (`written_dates`)
    delimiter, encoding, quotes, decimal  # where the file itself does not tell
    names = ["user", "item"]              # of the columns of a file without a header
    fill_down = ["event_time"]            # what only the first row of a session, or of a product's variants, says
    without_id = "ignore"                 # rows of a catalogue that are no product: pictures, say
    missing = ["-"]                       # more words for an id that is not there
    leave_out = ["Quantity <= 0"]         # rows that are none for us (`row_rules`)
    repeats = "commonest"                 # of a catalogue whose ids come again: the first row counts, the last, or
                                          # the last with the id's commonest title; refuse: they are bad rows
    paths = ","                           # between the category paths of a cell, and
    steps = ">"                           # between the names of a path
    group_prefix = "id:"                  # before the id of a group, and no part of it
    [events.event_types]
    fav = "ignore"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from recserv.errors import UsageError
from recserv.training.columns import PLACEHOLDERS
from recserv.training.csv_dialect import ReadAs
from recserv.training.event_names import EventNames
from recserv.training.mapped import Wanted
from recserv.training.row_rules import RowRule, parse_rules
from recserv.training.text import check_encoding
from recserv.training.times import AUTO, check_time_form

Part = Literal["events", "catalog"]
Repeats = Literal["refuse", "first", "last", "commonest"]
_SUFFIX = ".toml"


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything but names; see the module."""

    default_event_type: str = ""
    time: str = AUTO
    delimiter: str = ""
    encoding: str = ""
    quotes: bool | None = None
    decimal: Literal["", ",", "."] = ""
    names: tuple[str, ...] = ()
    fill_down: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    repeats: Repeats = "refuse"
    paths: str = "|"
    steps: str = ">"
    group_prefix: str = ""
    without_id: Literal["", "ignore"] = ""


class TableMapping(msgspec.Struct, frozen=True, kw_only=True):
    """Of one kind of file. `told`: columns named by hand; the file must have them. `fallback`: as in `Wanted`."""

    columns: dict[str, tuple[str, ...]] = {}
    event_types: dict[str, str] = {}
    read: ReadOptions = ReadOptions()
    told: frozenset[str] = frozenset()
    fallback: dict[str, tuple[str, ...]] = {}
    name: str = ""

    def wanted(self, names: tuple[str, ...], required: tuple[str, ...]) -> Wanted:
        read = self.read
        read_as = ReadAs(delimiter=read.delimiter, encoding=read.encoding, quotes=read.quotes, names=read.names)
        of_file = {rule.key: (rule.column,) for rule in self.rules() if rule.column not in names}
        ruled = {rule.column for rule in self.rules() if rule.column in names}
        return Wanted(
            (*names, *of_file),
            required,
            {**self.columns, **of_file},
            self.told | ruled | set(of_file),
            self.fallback,
            read.fill_down,
            read_as,
        )

    def rules(self) -> tuple[RowRule, ...]:
        """Rows to be left out."""
        return parse_rules(self.read.leave_out)

    def event_names(self) -> EventNames:
        return EventNames(self.event_types)

    def placeholders(self) -> tuple[str, ...]:
        return (*PLACEHOLDERS, *(word.lower() for word in self.read.missing))

    def falling_back(self, name: str, sources: tuple[str, ...]) -> TableMapping:
        """With names for a column of a file that has it under none of the others."""
        return msgspec.structs.replace(self, fallback={**self.fallback, name: sources})


class _Tables(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    about: str = ""
    events: dict[str, Any] | None = None
    catalog: dict[str, Any] | None = None


def built_in() -> list[str]:
    """Names, in alphabetical order."""
    folder = resources.files("recserv.mappings")
    return sorted(entry.name.removesuffix(_SUFFIX) for entry in folder.iterdir() if entry.name.endswith(_SUFFIX))


def load(name: str, part: Part, known: tuple[str, ...]) -> TableMapping:
    """A built-in mapping or that of a file. `known`: our columns. Raises UsageError."""
    option = "--mapping" if part == "events" else "--catalog-mapping"
    if name in built_in():
        text = (resources.files("recserv.mappings") / f"{name}{_SUFFIX}").read_text("utf-8")
    elif name.lower().endswith(_SUFFIX):
        try:
            text = Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{option} {name}: cannot be read: {error}") from error
    else:
        raise UsageError(f"{option} {name}: no such mapping; known are {', '.join(built_in())}, or FILE.toml")
    try:
        tables = msgspec.convert(tomllib.loads(text), _Tables)
        table = tables.events if part == "events" else tables.catalog
        if table is None:
            other = "--catalog-mapping" if part == "events" else "--mapping"
            raise UsageError(f"{option} {name}: it says nothing of such files; it is for {other}")
        return _parsed(name, table, known)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{option} {name}: {error}") from error


def about(name: str) -> str:
    """What a built-in mapping is for, in a line."""
    text = (resources.files("recserv.mappings") / f"{name}{_SUFFIX}").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), _Tables).about


def _parsed(name: str, table: dict[str, Any], known: tuple[str, ...]) -> TableMapping:
    rest = dict(table)
    read = msgspec.convert(rest.pop("read", {}), ReadOptions)
    event_types = msgspec.convert(rest.pop("event_types", {}), dict[str, str])
    columns = msgspec.convert(rest, dict[str, str | tuple[str, ...]])
    unknown = sorted(set(columns) - set(known))
    if unknown:
        raise UsageError(f"mapping {name}: {unknown[0]}: no such column; known are {', '.join(known)}")
    mapping = TableMapping(
        # A file that was prepared for recserv may use our names among its own.
        columns={column: _sources(column, given) for column, given in columns.items()},
        event_types=event_types,
        read=read,
        name=name,
    )
    mapping.event_names()
    check_read(read)
    return mapping


def _sources(column: str, given: str | tuple[str, ...]) -> tuple[str, ...]:
    sources = (given,) if isinstance(given, str) else given
    return tuple(dict.fromkeys((*sources, column))) if sources else ()


def check_read(read: ReadOptions) -> None:
    """Raises UsageError."""
    if read.delimiter and (len(read.delimiter) != 1 or not read.delimiter.isascii() or read.delimiter in '"\r\n'):
        raise UsageError(f"--delimiter {read.delimiter!r}: one character, or `tab`")
    if read.encoding:
        check_encoding(read.encoding)
    parse_rules(read.leave_out)
    check_time_form(read.time)


def combined(
    base: TableMapping, columns: Mapping[str, str], event_types: Mapping[str, str], **read: Any
) -> TableMapping:
    """A mapping with what was told by hand over it; an empty name: the column is not read. `read`: options of
    ReadOptions, of which empty ones say nothing.
    """
    told = {name: (source,) if source else () for name, source in columns.items()}
    options = {name: value for name, value in read.items() if value not in ("", None)}
    mapping = msgspec.structs.replace(
        base,
        columns={**base.columns, **told},
        event_types={**base.event_types, **event_types},
        read=msgspec.structs.replace(base.read, **options),
        told=base.told | {name for name, source in columns.items() if source},
    )
    mapping.event_names()
    check_read(mapping.read)
    return mapping


def explained(mapping: TableMapping, part: Part, names: tuple[str, ...]) -> str:
    """The mapping in force as TOML, every column of ours with what it may be called."""
    lines = [f"[{part}]"]
    for name in names:
        sources = mapping.columns.get(name, (name,))
        lines.append(f"{name} = {_toml(sources[0] if len(sources) == 1 else list(sources))}")
    chosen = {name: getattr(mapping.read, name) for name in ReadOptions.__struct_fields__}
    options = {name: value for name, value in chosen.items() if value not in ("", None, ())}
    lines += ["", f"[{part}.read]", *(f"{name} = {_toml(value)}" for name, value in options.items())]
    if part == "events":
        lines += ["", f"[{part}.event_types]"]
        lines += [f"{_toml(name)} = {_toml(kind)}" for name, kind in mapping.event_types.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    # A JSON string, list or boolean is one of TOML too.
    return msgspec.json.encode(value).decode()
