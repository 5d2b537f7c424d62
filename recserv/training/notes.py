"""What reading found besides bad rows and must report: counted batch by batch, one `DataReport` at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from recserv.model.data_report import EventName, Finding, RuleCount
from recserv.training.amounts import Decimal
from recserv.training.mapped import MappedBatch
from recserv.training.problems import RowChecks, SkippedRows
from recserv.training.row_rules import RowRule

IGNORED = "ignored"
UNKNOWN = "unknown"
SAID_OF = {
    "user_id": "a model is of sessions, not of users; `recserv import` makes the users' profiles of it",
    "quantity": "how many makes no difference; below zero it is a return, which is left out",
    "value": "not used by the model",
}
"""Columns that a build reads and judges, and does not learn from."""


class Notes:
    """`unknown`: names that are no event type, each with its first row."""

    def __init__(self) -> None:
        self.files = 0
        self.rows_read = 0
        self.rows_blank = 0
        self.rows_without_item = 0
        self.rows_ignored = 0
        self.rows_returned = 0
        self.rows_by_rule: dict[str, int] = {}
        self.unknown: dict[str, SkippedRows] = {}
        self.remarks: dict[str, None] = {}
        self._event_names: dict[tuple[str, str], int] = {}
        self._left_out: dict[tuple[str, str, str], SkippedRows] = {}
        self._unused: dict[str, None] = {}
        self._amounts: dict[str, str] = {}

    def columns(self, unused: Iterable[str]) -> None:
        """After a file was read."""
        self.files += 1
        self._unused.update(dict.fromkeys(unused))

    def amount_columns(self, sources: Mapping[str, str]) -> None:
        """What the file calls the columns that say who, how many and for how much."""
        self._amounts.update({name: sources[name] for name in SAID_OF if name in sources})

    def of_amounts(self) -> tuple[str, ...]:
        """What becomes of these columns, a line each, and of the rows that take something back."""
        lines = [f"{_called(source, name)}: {SAID_OF[name]}" for name, source in sorted(self._amounts.items())]
        if self.rows_returned:
            lines.append(f"{self.rows_returned:,} rows with a negative quantity are returns: left out")
        return tuple(lines)

    def left_out(self, new: SkippedRows) -> None:
        """Values that could not be read, of rows that stay."""
        key = (new.path, new.column, new.problem)
        old = self._left_out.get(key)
        self._left_out[key] = msgspec.structs.replace(old, count=old.count + new.count) if old else new

    def event_name(self, name: str, taken_as: str, count: int) -> None:
        self._event_names[name, taken_as] = self._event_names.get((name, taken_as), 0) + count

    def unknown_event(self, new: SkippedRows) -> None:
        old = self.unknown.get(new.example)
        self.unknown[new.example] = msgspec.structs.replace(old, count=old.count + new.count) if old else new

    def by_rule(self, rule: str, count: int) -> None:
        self.rows_by_rule[rule] = self.rows_by_rule.get(rule, 0) + count

    def rule_counts(self) -> tuple[RuleCount, ...]:
        return tuple(RuleCount(rule, count) for rule, count in self.rows_by_rule.items())

    def event_names(self) -> tuple[EventName, ...]:
        """The most frequent first."""
        found = sorted(self._event_names.items(), key=lambda entry: (-entry[1], entry[0]))
        return tuple(EventName(name, taken_as, count) for (name, taken_as), count in found)

    def values_left_out(self) -> tuple[Finding, ...]:
        return findings(self._left_out.values())

    def unused_columns(self) -> tuple[str, ...]:
        return tuple(self._unused)


def leave_out(
    rules: Iterable[RowRule], raw: MappedBatch, checks: RowChecks, notes: Notes, decimal: Decimal = ""
) -> None:
    """Takes away what the rules say, before anything in those rows is judged."""
    for rule in rules:
        column = raw.columns.get(rule.key, raw.columns.get(rule.column))
        notes.by_rule(rule.text, 0 if column is None else checks.drop(rule.met(column, decimal)))


def findings(skipped: Iterable[SkippedRows]) -> tuple[Finding, ...]:
    return tuple(
        Finding(Path(one.path).name, one.column, one.problem, one.first_row, one.count, one.example) for one in skipped
    )


def _called(source: str, name: str) -> str:
    return name if source == name else f"{name} ({source})"
