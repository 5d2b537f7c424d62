"""The guided tour: one shopper, a few events, and how the recommendations answer each of them."""

from __future__ import annotations

import itertools
import secrets
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from rich.console import Console
from rich.markup import escape

from recserv.client import RecommendationClient
from recserv.commands.tables import changes_lines, degraded_label, title_of
from recserv.types import PAGE_SIZE_MAX, Event, EventType, ReasonType, Recommendation, RecommendQuery, Result

ROWS = 6
IMPERSONAL = (ReasonType.POPULAR, ReasonType.POPULAR_IN_CATEGORY, ReasonType.TRENDING)
T = TypeVar("T")


class Cast(msgspec.Struct, frozen=True):
    """The products of the tour: popular ones of different kinds, chosen from the data."""

    viewed: Result
    searched: Result


class Tour:
    """Walks through the steps with one session of one shopper, printing as it goes. Raises CallFailed."""

    def __init__(self, client: RecommendationClient, console: Console):
        self._client = client
        self._console = console
        self._session = f"demo-{secrets.token_hex(4)}"
        self._steps = itertools.count(1)
        self._events = itertools.count(1)
        self._ranks: dict[str, int] = {}
        self._seen: list[str] = []
        self._recommend_ms: list[float] = []
        self._ingest_ms: list[float] = []

    def run(self) -> Cast:
        cast = self._choose_products()
        self._heading("Cold start", "nothing is known of this shopper: popular products, labelled as such")
        self._recommend()

        viewed = cast.viewed
        self._heading("A view", f"the shopper looks at {title_of(viewed)}; what was looked at is left out from now on")
        self._ingest(EventType.VIEW, viewed.item_id)
        self._recommend()

        searched = cast.searched
        words = _search_words(searched)
        self._heading("A search", f'searches for "{words}" and opens {title_of(searched)}')
        self._ingest(EventType.SEARCH, "", search_query=words)
        self._ingest(EventType.CLICK, searched.item_id)
        shown = self._recommend()

        carted = _first_of_interest(shown.results)
        self._heading("Into the cart", f"takes {title_of(carted)}, just recommended")
        self._ingest(EventType.ADD_TO_CART, carted.item_id, quantity=1)
        self._recommend()

        self._heading("A purchase", "buys it; from now on asked with exclude_purchased")
        price = carted.item.price if carted.item is not None else 0.0
        self._ingest(EventType.PURCHASE, carted.item_id, quantity=1, value=price)
        self._recommend(exclude_purchased=True)
        self._say_where_the_purchase_is(carted)

        self._other_placements(cast)
        self._say(
            f"\nMedian of {len(self._recommend_ms)} Recommend calls {statistics.median(self._recommend_ms):.1f} ms, "
            f"of {len(self._ingest_ms)} events {statistics.median(self._ingest_ms):.1f} ms, each of them on disk "
            "before it was acknowledged."
        )
        return cast

    def _say_where_the_purchase_is(self, bought: Result) -> None:
        """With and without exclude_purchased, in lists of a hundred."""
        places = []
        for exclude in (False, True):
            query = RecommendQuery(session_id=self._session, page_size=PAGE_SIZE_MAX, exclude_purchased=exclude)
            ids = [result.item_id for result in self._client.recommend(query).results]
            places.append(f"number {ids.index(bought.item_id) + 1}" if bought.item_id in ids else "not there")
        self._say(f"Among 100, {title_of(bought)} is {places[0]} without exclude_purchased, {places[1]} with it.")

    def _other_placements(self, cast: Cast) -> None:
        viewed = cast.viewed
        self._heading("A product page", f"what goes with {title_of(viewed)}, for anybody (anchor_item_ids)")
        self._show(RecommendQuery(anchor_item_ids=(viewed.item_id,), page_size=ROWS, return_items=True), compare=False)
        category = category_of(cast.searched)
        if category:
            self._heading("A category page", f"only {category}, for this shopper (category)")
            query = RecommendQuery(session_id=self._session, category=category, page_size=ROWS, return_items=True)
            self._show(query, compare=False)

    def _choose_products(self) -> Cast:
        """The most popular products whose titles are words, from two categories. It also connects, untimed."""
        popular = self._client.recommend(RecommendQuery(page_size=PAGE_SIZE_MAX, return_items=True)).results
        named = [result for result in popular if _recognisable(result)] or list(popular)
        viewed = named[0]
        others = [result for result in named if category_of(result) != category_of(viewed)]
        return Cast(viewed, others[0] if others else named[-1])

    def _recommend(self, *, exclude_purchased: bool | None = None) -> Recommendation:
        query = RecommendQuery(
            session_id=self._session,
            page_size=ROWS,
            return_items=True,
            exclude_item_ids=tuple(self._seen),
            exclude_purchased=exclude_purchased,
        )
        return self._show(query, compare=True)

    def _show(self, query: RecommendQuery, *, compare: bool) -> Recommendation:
        """Asks, prints the answer, and with `compare` how it moved since the last compared one."""
        answer, took_ms = _timed(lambda: self._client.recommend(query))
        self._recommend_ms.append(took_ms)
        self._say(f"Recommend answered in {took_ms:.1f} ms")
        if answer.degraded_reasons:
            self._say(f"degraded: {degraded_label(answer)}")
        for line in changes_lines(answer.results, self._ranks if compare else {}, self._console.width):
            self._console.print(line, soft_wrap=True)
        if compare:
            self._ranks = {result.item_id: result.rank for result in answer.results}
        return answer

    def _ingest(
        self,
        event_type: EventType,
        item_id: str,
        *,
        search_query: str = "",
        quantity: int = 0,
        value: float = 0.0,
    ) -> None:
        event = Event(
            event_id=f"{self._session}-{next(self._events)}",
            event_type=event_type,
            session_id=self._session,
            item_id=item_id,
            search_query=search_query,
            quantity=quantity,
            value=value,
        )
        if event_type in (EventType.VIEW, EventType.CLICK):
            self._seen.append(item_id)
        _, took_ms = _timed(lambda: self._client.ingest(event))
        self._ingest_ms.append(took_ms)
        self._say(f"{event_type.name} stored in {took_ms:.1f} ms")

    def _heading(self, name: str, text: str) -> None:
        self._console.print(f"\n[bold]{next(self._steps)}. {escape(name)}[/bold]", highlight=False)
        self._say(text)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)


def category_of(result: Result) -> str:
    """Its most specific category."""
    return result.item.categories[-1] if result.item is not None and result.item.categories else ""


def _recognisable(result: Result) -> bool:
    """A title of plain words, as a person would say it."""
    title = result.item.title if result.item is not None else ""
    words = title.partition("(")[0].split()
    return 1 <= len(words) <= 3 and all(word.isalpha() and len(word) > 2 for word in words)


def _search_words(result: Result) -> str:
    return title_of(result).partition("(")[0].partition(",")[0].strip().lower()


def _first_of_interest(results: Sequence[Result]) -> Result:
    """The best result that follows from what the shopper did, not from popularity alone."""
    return next(
        (result for result in results if result.reasons and result.reasons[0].type not in IMPERSONAL), results[0]
    )


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    """The call's answer and milliseconds."""
    started = time.perf_counter()
    answer = call()
    return answer, (time.perf_counter() - started) * 1000
