"""Recommendations as tables for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from recserv.types import Recommendation, Result, Source

TITLE_WIDTH_MAX = 44
WHY_WIDTH_MAX = 60

_SOURCES = {
    Source.CONTEXT_VECTOR: "context vector",
    Source.COVISITATION: "co-visitation",
    Source.SESSION_KNN: "similar sessions",
    Source.POPULAR: "popular",
    Source.POPULAR_IN_CATEGORY: "popular in category",
    Source.TRENDING: "trending",
    Source.REQUESTED: "requested",
}


def source_label(source: Source) -> str:
    return _SOURCES.get(source, "unknown")


def title_of(result: Result) -> str:
    """What a person calls the product: its title, else its id."""
    return result.item.title if result.item is not None and result.item.title else result.item_id


def why(result: Result) -> str:
    """The first reason in words."""
    return result.reasons[0].text if result.reasons else ""


def results_table(results: Sequence[Result], title: str = "") -> Table:
    """rank, title, id, score, source, why"""
    table = Table(title=escape(title) if title else None, title_justify="left", pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("title", max_width=TITLE_WIDTH_MAX, overflow="ellipsis", no_wrap=True)
    table.add_column("item id")
    table.add_column("score", justify="right")
    table.add_column("source", no_wrap=True)
    table.add_column("why", max_width=WHY_WIDTH_MAX)
    for result in results:
        table.add_row(
            str(result.rank),
            Text(title_of(result)),
            Text(result.item_id),
            f"{result.score:.3f}",
            source_label(result.source),
            Text(why(result)),
        )
    return table


def changes_table(results: Sequence[Result], before: Mapping[str, int]) -> Table:
    """rank, how it moved since `before` (item id -> rank), title, source, why"""
    table = Table(pad_edge=False, show_edge=False)
    table.add_column("#", justify="right")
    table.add_column("", no_wrap=True)
    table.add_column("title", max_width=TITLE_WIDTH_MAX, overflow="ellipsis", no_wrap=True)
    table.add_column("source", no_wrap=True)
    table.add_column("why", max_width=WHY_WIDTH_MAX)
    for result in results:
        table.add_row(
            str(result.rank),
            movement(result, before),
            Text(title_of(result)),
            source_label(result.source),
            Text(why(result)),
        )
    return table


def movement(result: Result, before: Mapping[str, int]) -> Text:
    """`new`, `+2`, `-1`, `=`; empty where there was no list before."""
    if not before:
        return Text("")
    if result.item_id not in before:
        return Text("new", style="green")
    climbed = before[result.item_id] - result.rank
    if climbed == 0:
        return Text("=", style="dim")
    return Text(f"{climbed:+d}", style="cyan" if climbed > 0 else "dim")


def degraded_label(recommendation: Recommendation) -> str:
    """The causes in words; empty for a full answer."""
    return ", ".join(reason.name.lower().replace("_", " ") for reason in recommendation.degraded_reasons)
