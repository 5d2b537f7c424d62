"""The report of how a build understood its files: for people and, as JSON, for programs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from recserv.errors import UsageError

if TYPE_CHECKING:
    from recserv.model.data_report import CatalogMatch, DataReport, Finding, HoldoutReport, RuleCount, TieReport

LABEL_WIDTH = 9
_SHOWN = 20
_NAMES_SHOWN = 12
_RULE_SHOWN = 60
_LOW = 0.95


def facts_of(report: DataReport) -> list[tuple[str, str]]:
    """Label and text of each line, but for the bad rows."""
    files = "1 file" if report.files == 1 else f"{report.files:,} files"
    facts = [
        ("read", f"{report.rows_read:,} rows of events; {files} in all{_left_out(report)}"),
        ("span", _span(report)),
        ("types", _types(report)),
    ]
    if report.rows_by_rule:
        facts.append(("left out", rules_text(report.rows_by_rule)))
    unknown = [f"{one.name!r} {one.count:,}" for one in report.event_names if one.taken_as == "unknown"]
    if unknown:
        facts.append(("unknown", f"{_some(unknown)}: unknown event types (--event-type NAME=TYPE maps them)"))
    facts.append(
        ("sessions", f"{report.sessions:,}, {report.sessions_with_several:,} of them with more than one event")
    )
    if report.ties is not None:
        facts.append(("order", tie_text(report.ties)))
    if report.holdout is not None:
        facts.append(("held out", _held_out(report.holdout)))
    for session in report.lopsided_sessions:
        share = session.events / max(report.events, 1)
        facts.append(("", f"{session.session_id!r} alone holds {session.events:,} events, {share:.1%} of all"))
    if report.catalog is not None:
        facts += _catalog(report.catalog)
    if report.values_left_out:
        count = sum(found.count for found in report.values_left_out)
        facts.append(("left out", f"{count:,} values, of rows that stay:"))
        facts += [("", line) for line in finding_lines(report.values_left_out)]
    if report.unused_columns:
        facts.append(("not used", _some(" ".join(name.split()) for name in report.unused_columns)))
    facts += [("note", note) for note in report.notes]
    return facts


def tie_text(ties: TieReport) -> str:
    """What is done about lines that share one time, what that means and why, in a sentence or two."""
    used = "is used" if ties.kept else "is not used: what goes together is learned, not what follows what"
    why = {
        "sorted": "their rows are sorted by item",
        "told": "by --ties",
        "rule": "purchases of one time have no order" if not ties.kept else "rows of one time are in order",
        "tried": "",
    }[ties.reason]
    if ties.file_order is not None and ties.no_order is not None:
        one, other = ties.file_order, ties.no_order
        why = (
            "tried on newer sessions, HR@20 asked in the file's order and in a random one: learned in order"
            f" {one.asked_in_file_order:.3f} and {one.asked_in_random_order:.3f}, learned without"
            f" {other.asked_in_file_order:.3f} and {other.asked_in_random_order:.3f}"
        )
    return f"the lines of {ties.share:.0%} of the sessions share one time; their order in the file {used} ({why})"


def _held_out(held: HoldoutReport) -> str:
    when = "" if held.first_end_ms is None else f" (ended {_utc(held.first_end_ms)} or later)"
    blanks = f"; {held.rows_with_blanks:,} rows of items with blanks in their ids left out" * bool(
        held.rows_with_blanks
    )
    how = "each item left out of its basket in turn" if held.sessions_without_order else "each next item"
    return (
        f"the newest {held.sessions:,} sessions{when}; {held.sessions_asked:,} of them ask {held.questions:,} questions"
        f" ({how}) in {held.file}{blanks}"
    )


def finding_lines(found: Iterable[Finding]) -> list[str]:
    lines = []
    for one in list(found)[:_SHOWN]:
        column = f", column {one.column}" if one.column else ""
        example = f" (such as {one.example})" if one.example else ""
        lines.append(f"  {one.count:,} in {one.file}{column}: {one.problem}{example}, first in row {one.first_row}")
    return lines


def check_report(path: str) -> None:
    """Before anything is read. Raises UsageError."""
    if not Path(path).absolute().parent.is_dir():
        raise UsageError(f"--report {path}: no such folder")


def write_report(path: str, report: DataReport) -> None:
    """Raises UsageError."""
    import msgspec

    try:
        Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    except OSError as error:
        raise UsageError(f"--report {path}: {error.strerror or error}") from error


def _left_out(report: DataReport) -> str:
    counts = (
        (report.rows_bad, "bad"),
        (report.rows_blank, "blank"),
        (report.rows_without_item, "without a product"),
        (report.rows_ignored, "of types to be ignored"),
        (report.duplicate_events, "duplicates left out"),
    )
    return "".join(f"; {count:,} {what}" for count, what in counts if count)


def _span(report: DataReport) -> str:
    if report.first_event_ms is None or report.last_event_ms is None:
        return "no times: the order of the rows is taken for the order of the events"
    return f"{_utc(report.first_event_ms)} to {_utc(report.last_event_ms)}"


def _utc(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(time_ms / 1000))


def _types(report: DataReport) -> str:
    """The name in the file, and what it was taken for where that is not the same."""
    shown = []
    for one in report.event_names:
        if one.taken_as != "unknown":
            name = f"{one.name} ({one.taken_as})" if one.name and one.name != one.taken_as else one.taken_as
            shown.append(f"{name} {one.count:,}")
    return _some(shown) or "none"


def _catalog(match: CatalogMatch) -> list[tuple[str, str]]:
    items = f"{match.items:,} items, {match.items_without_events:,} without events"
    facts = [("catalogue", f"{items}; {match.events_share:.1%} of the events have an item of it")]
    if match.items_outside:
        facts.append(("", f"{match.items_outside:,} items of the events are not in the catalogue: never recommended"))
    if match.events_share < _LOW:
        only = _ids(match.catalog_samples)
        facts.append(("", f"such as {_ids(match.outside_samples)}; only in the catalogue: {only}"))
    return facts


def _ids(samples: Iterable[str]) -> str:
    return ", ".join(map(repr, samples)) or "none"


def rules_text(rules: Iterable[RuleCount]) -> str:
    return "; ".join(f"{one.count:,} if {_short(one.rule)}" for one in rules)


def _short(text: str) -> str:
    return text if len(text) <= _RULE_SHOWN else text[: _RULE_SHOWN - 3] + "..."


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {len(names) - _NAMES_SHOWN} more" * (len(names) > _NAMES_SHOWN))
