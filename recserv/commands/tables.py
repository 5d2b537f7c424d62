"""Recommendations as tables for a person, laid out for the width at hand.

If there is room, the reason is the last cell of its row; otherwise it gets a line of its own below, so that neither it
nor the title is broken into fragments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from rich.text import Text

from recserv.types import Recommendation, Result, Source

TITLE_WIDTH_MIN = 16
TITLE_WIDTH_MAX = 44
WHY_WIDTH_MIN = 50
WHY_INDENT = 5
GAP = "  "

_SOURCES = {
    Source.CONTEXT_VECTOR: "context vector",
    Source.COVISITATION: "co-visitation",
    Source.SESSION_KNN: "similar sessions",
    Source.POPULAR: "popular",
    Source.POPULAR_IN_CATEGORY: "popular in category",
    Source.TRENDING: "trending",
    Source.REQUESTED: "requested",
}


class Column(msgspec.Struct, frozen=True):
    """`flexible` gives up width where there is not enough."""

    header: str
    cells: Sequence[Text]
    right: bool = False
    flexible: bool = False

    @property
    def width(self) -> int:
        widest = max([len(self.header), *(cell.cell_len for cell in self.cells)])
        return min(widest, TITLE_WIDTH_MAX) if self.flexible else widest


def source_label(source: Source) -> str:
    return _SOURCES.get(source, "unknown")


def title_of(result: Result) -> str:
    """How a person would name the product: its title, else its id."""
    return result.item.title if result.item is not None and result.item.title else result.item_id


def why(result: Result) -> str:
    """The first reason in words."""
    return result.reasons[0].text if result.reasons else ""


def degraded_label(recommendation: Recommendation) -> str:
    """The causes in words; empty for a full answer."""
    return ", ".join(reason.name.lower().replace("_", " ") for reason in recommendation.degraded_reasons)


def results_lines(results: Sequence[Result], width: int) -> list[Text]:
    """rank, title, item id, score, source, why"""
    columns = [
        Column("#", [Text(str(result.rank)) for result in results], right=True),
        Column("title", [Text(title_of(result)) for result in results], flexible=True),
        Column("item id", [Text(result.item_id) for result in results]),
        Column("score", [Text(f"{result.score:.3f}") for result in results], right=True),
        Column("source", [Text(source_label(result.source)) for result in results]),
    ]
    return _lines(columns, [why(result) for result in results], width)


def changes_lines(results: Sequence[Result], before: Mapping[str, int], width: int) -> list[Text]:
    """rank, how it moved since `before` (item id -> rank) if there was a list before, title, source, why"""
    moved = Column("", [movement(result, before) for result in results])
    columns = [
        Column("#", [Text(str(result.rank)) for result in results], right=True),
        *([moved] if before else []),
        Column("title", [Text(title_of(result)) for result in results], flexible=True),
        Column("source", [Text(source_label(result.source)) for result in results]),
    ]
    return _lines(columns, [why(result) for result in results], width)


def movement(result: Result, before: Mapping[str, int]) -> Text:
    """`new`, `+2`, `-1` or `=`."""
    if result.item_id not in before:
        return Text("new", style="green")
    climbed = before[result.item_id] - result.rank
    if climbed == 0:
        return Text("=", style="dim")
    return Text(f"{climbed:+d}", style="cyan" if climbed > 0 else "dim")


def _lines(columns: Sequence[Column], reasons: Sequence[str], width: int) -> list[Text]:
    widths = _widths(columns, width)
    left = width - sum(widths) - len(GAP) * len(widths)
    beside = left >= WHY_WIDTH_MIN
    header = _row([Text(column.header) for column in columns], columns, widths)
    header.stylize("dim")
    lines = [header]
    for number, reason in enumerate(reasons):
        line = _row([column.cells[number] for column in columns], columns, widths)
        lines.append(line)
        told = Text(reason if beside else " " * WHY_INDENT + reason, style="dim")
        told.truncate(left if beside else width, overflow="ellipsis")
        if beside:
            line.append(GAP).append_text(told)
        elif reason:
            lines.append(told)
    for line in lines:
        line.rstrip()
    return lines


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    excess = sum(column.width + len(GAP) for column in columns) - len(GAP) - width
    return [
        min(column.width, max(TITLE_WIDTH_MIN, column.width - excess))
        if column.flexible and excess > 0
        else column.width
        for column in columns
    ]


def _row(cells: Sequence[Text], columns: Sequence[Column], widths: Sequence[int]) -> Text:
    laid = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        fitted = cell.copy()
        fitted.truncate(width, overflow="ellipsis")
        fitted.align("right" if column.right else "left", width)
        laid.append(fitted)
    return Text(GAP).join(laid)
