"""`recserv explain`: one Recommend, and its explanations as they arrive.

On a terminal a table whose lines change; elsewhere a line for each text, in the order in which they land.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from recserv.client import CallFailed, RecommendationClient
from recserv.commands.query import add_query_arguments, print_failure, print_header, query_of, seconds
from recserv.commands.tables import TITLE_WIDTH_MAX, title_of
from recserv.types import ExplainMode, Explanation, ExplanationState, Recommendation, Result, TemplateCause

WAIT_S = 60.0
_LABELS = {
    ExplanationState.PENDING: ("...", "yellow"),
    ExplanationState.READY: ("ready", "green"),
    ExplanationState.TEMPLATE: ("template", "dim"),
}


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "explain",
        help="watch the explanations of a recommendation arrive",
        description="One Recommend call with explanations by the server's language model, and their texts as they land."
        " Without one, or where it fails, the template reasons stay, with the cause.",
    )
    add_query_arguments(parser)
    parser.add_argument("--wait", type=seconds, default=WAIT_S, metavar="S", help="how long to wait for texts (60)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    query, console = query_of(args, ExplainMode.LLM_ASYNC), Console()
    with RecommendationClient(args.target, args.timeout) as client:
        began = time.perf_counter()
        try:
            answer = client.recommend(query)
            print_header(console, query, answer, (time.perf_counter() - began) * 1000)
            if not answer.results:
                return 0
            board = _Board(answer, began)
            news = client.watch_explanations(answer.explanation_token, args.wait)
            (_live if console.is_terminal else _lines)(console, board, news)
        except CallFailed as error:
            print_failure(Console(stderr=True), args.target, error)
            return 1
    console.print(board.summary(), soft_wrap=True)
    return 0


class _Board:
    """The state of each result, and when it arrived."""

    def __init__(self, answer: Recommendation, began: float):
        self._results, self._began = answer.results, began
        self._known = {r.item_id: Explanation(r.item_id, r.explanation, r.explanation_state) for r in answer.results}
        self._at_s = {r.item_id: 0.0 for r in answer.results if r.explanation_state is not ExplanationState.PENDING}

    def take(self, news: Explanation) -> None:
        self._known[news.item_id] = news
        self._at_s.setdefault(news.item_id, time.perf_counter() - self._began)

    def table(self) -> Table:
        table = Table(box=None, header_style="dim", pad_edge=False)
        for header in ("#", "title"):
            table.add_column(header, no_wrap=True, max_width=TITLE_WIDTH_MAX, overflow="ellipsis")
        table.add_column("state")
        table.add_column("after", justify="right")
        table.add_column("why", ratio=1)
        for result in self._results:
            table.add_row(*self._row(result))
        return table

    def _row(self, result: Result) -> list[Text]:
        known = self._known[result.item_id]
        label, style = _LABELS.get(known.state, ("unknown", "red"))
        at_s = self._at_s.get(result.item_id)
        after = "" if at_s is None else f"{at_s:.2f} s" if at_s else "at once"
        text_style = "" if known.state is ExplanationState.READY else "dim"
        return [
            Text(str(result.rank)),
            Text(title_of(result)),
            Text(label, style),
            Text(after, "dim"),
            Text(known.text, text_style),
        ]

    def line(self, item_id: str) -> Text:
        result = next(result for result in self._results if result.item_id == item_id)
        return Text("  ").join(self._row(result))

    def summary(self) -> Text:
        known = self._known.values()
        ready = sum(explanation.state is ExplanationState.READY for explanation in known)
        causes = sorted(
            {e.cause.name.lower().replace("_", " ") for e in known if e.cause is not TemplateCause.UNSPECIFIED}
        )
        text = f"{ready} of {len(self._results)} written by the model, the last after {max(self._at_s.values()):.2f} s"
        return Text(text + (f"; templates because: {', '.join(causes)}" if causes else ""))


def _live(console: Console, board: _Board, news: Iterator[Explanation]) -> None:
    with Live(board.table(), console=console, refresh_per_second=10) as live:
        for explanation in news:
            board.take(explanation)
            live.update(board.table())


def _lines(console: Console, board: _Board, news: Iterator[Explanation]) -> None:
    for explanation in news:
        board.take(explanation)
        console.print(board.line(explanation.item_id), soft_wrap=True)
