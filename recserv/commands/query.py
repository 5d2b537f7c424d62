"""`recserv query`: one Recommend, printed as a table."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from recserv.client import CallFailed, RecommendationClient
from recserv.commands.tables import degraded_label, results_lines
from recserv.types import (
    ANCHORS_MAX,
    PAGE_SIZE_DEFAULT,
    PAGE_SIZE_MAX,
    Event,
    EventType,
    ExplainMode,
    Recommendation,
    RecommendQuery,
)

TIMEOUT_S_MAX = 600.0
EXAMPLES = 3
"""How many of the server's ids to show to a caller who gave unknown ones."""
EVENT_FLAGS = {
    "--view": (EventType.VIEW, "ITEM", "the shopper viewed ITEM"),
    "--cart": (EventType.ADD_TO_CART, "ITEM", "the shopper put ITEM into the cart"),
    "--purchase": (EventType.PURCHASE, "ITEM", "the shopper bought ITEM"),
    "--search": (EventType.SEARCH, "TEXT", "the shopper searched for TEXT"),
}


class _AppendEvents(argparse.Action):
    """Keeps the events of all the flags in one list, in the order of the command line."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        event_type = EVENT_FLAGS[option_string or ""][0]
        given = [values] if isinstance(values, str) else [str(value) for value in values or ()]
        events = list(namespace.events)
        for value in given:
            field = "search_query" if event_type is EventType.SEARCH else "item_id"
            events.append(Event(event_type=event_type, **{field: value}))  # type: ignore[arg-type]
        namespace.events = events


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "query",
        help="ask a running server for recommendations",
        description="One Recommend call, printed as a table. What the flags tell of the shopper counts for this call "
        "only and is not stored; it comes after what the server has stored for the session.",
    )
    add_query_arguments(parser)
    parser.set_defaults(run=run)


def add_query_arguments(parser: argparse.ArgumentParser) -> None:
    """The server, the shopper, and what the answer shall hold."""
    parser.add_argument("--target", required=True, metavar="HOST:PORT")
    parser.add_argument("--session", default="", metavar="S", help="session id")
    parser.add_argument("--user", default="", metavar="U", help="user id")
    for flag, (event_type, metavar, text) in EVENT_FLAGS.items():
        count = None if event_type is EventType.SEARCH else "+"
        parser.add_argument(flag, action=_AppendEvents, nargs=count, metavar=metavar, dest="events", help=text)
    parser.add_argument("--anchor", nargs="+", default=[], metavar="ITEM", help="recommend for these products")
    parser.add_argument("--category", default="", metavar="C", help="only products of this category")
    parser.add_argument("--exclude-purchased", action="store_true", default=None, help="leave out what was bought")
    parser.add_argument("--count", type=_count, default=PAGE_SIZE_DEFAULT, metavar="N", help="how many products (10)")
    parser.add_argument("--timeout", type=seconds, default=2.0, metavar="S", help="deadline in seconds (2)")
    parser.set_defaults(events=[])


def _count(text: str) -> int:
    count = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= count <= PAGE_SIZE_MAX:
        raise argparse.ArgumentTypeError(f"must be 1 to {PAGE_SIZE_MAX}, not {text!r}")
    return count


def seconds(text: str) -> float:
    """An argument that is a span of time."""
    given = float(text)
    if not 0.0 < given <= TIMEOUT_S_MAX:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most {TIMEOUT_S_MAX:g}, not {text!r}")
    return given


def query_of(args: argparse.Namespace, explain: ExplainMode) -> RecommendQuery:
    return RecommendQuery(
        session_id=args.session,
        user_id=args.user,
        context_events=tuple(args.events),
        anchor_item_ids=tuple(args.anchor[: ANCHORS_MAX + 1]),
        category=args.category,
        exclude_purchased=args.exclude_purchased,
        page_size=args.count,
        return_items=True,
        explain=explain,
    )


def run(args: argparse.Namespace) -> int:
    query = query_of(args, ExplainMode.REASONS)
    with RecommendationClient(args.target, args.timeout) as client:
        started = time.perf_counter()
        try:
            recommendation = client.recommend(query)
        except CallFailed as error:
            print_failure(Console(stderr=True), args.target, error)
            return 1
        latency_ms = (time.perf_counter() - started) * 1000
    console = Console()
    print_header(console, query, recommendation, latency_ms)
    for line in results_lines(recommendation.results, console.width):
        console.print(line, soft_wrap=True)
    return 0


def print_header(console: Console, query: RecommendQuery, recommendation: Recommendation, latency_ms: float) -> None:
    console.print(
        f"{len(recommendation.results)} products in {latency_ms:.1f} ms (with connecting), "
        f"model {escape(recommendation.model_version)}"
    )
    if recommendation.degraded_reasons:
        console.print(f"[yellow]degraded: {degraded_label(recommendation)}[/yellow]")
    if missing := (*recommendation.missing_item_ids, *recommendation.missing_categories):
        console.print(f"[yellow]not in the model: {escape(', '.join(missing))}[/yellow]", soft_wrap=True)
    given = {event.item_id for event in query.context_events if event.item_id} | set(query.anchor_item_ids)
    if given and given <= set(recommendation.missing_item_ids) and recommendation.results:
        # Mostly ids of another shop, such as those of an example.
        known = ", ".join(result.item_id for result in recommendation.results[:EXAMPLES])
        console.print(f"[yellow]its item ids look like {escape(known)}[/yellow]", soft_wrap=True)


NOBODY = "no server answers there: start `recserv serve --model MODEL_DIR`, and give its --listen address as --target"


def nobody_there(error: CallFailed) -> bool:
    """Whether no server was reached, as opposed to one that answered with an error."""
    return error.code == "UNAVAILABLE" and not error.server_reason and error.retry_after_s is None


def print_failure(console: Console, target: str, error: CallFailed) -> None:
    """The status, what the server said, and each field that it complained of."""
    console.print(f"[red]{error.code}[/red] from {escape(target)}: {escape(error.message)}", soft_wrap=True)
    if nobody_there(error):
        console.print(f"  {escape(NOBODY)}", soft_wrap=True, highlight=False)
    for violation in error.violations:
        console.print(f"  {escape(violation.field)}: {escape(violation.description)}")
    if error.retry_after_s is not None:
        console.print(f"  retry after {error.retry_after_s:g} s")
