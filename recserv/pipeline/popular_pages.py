"""Caches popular pages that are the same for everybody, the cheapest answer of an overloaded server.

    (page size, category, with reasons?) -> the page, the same object for all

It is the right page for a shopper of whom nothing is known and whose request excludes none of its items.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from recserv.pipeline.rank import Ranking
from recserv.types import ExplainMode, RecommendQuery, Result, Source

PAGES_MAX = 64
"""Callers may send any category, so the number of pages is limited; the oldest is evicted."""


class PopularPage(NamedTuple):
    ranking: Ranking
    results: tuple[Result, ...]
    sources: Counter[Source]
    """Number of results by source."""
    item_rows: frozenset[int]
    """Rows of its items. A request that excludes none of them would compute the same page."""


def popular_page(ranking: Ranking, results: tuple[Result, ...]) -> PopularPage:
    sources = Counter(result.source for result in results)
    return PopularPage(ranking, results, sources, frozenset(ranking.items.tolist()))


def shareable(query: RecommendQuery) -> bool:
    """Whether the page is the same for every such request. Pages with whole items would take too much memory."""
    return not query.candidate_item_ids and not query.return_items


class PopularPages:
    """Belongs to one model."""

    def __init__(self, pages_max: int = PAGES_MAX):
        self._pages_max = pages_max
        self._pages: OrderedDict[tuple[int, str, bool], PopularPage] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pages)

    def get(self, query: RecommendQuery, make: Callable[[RecommendQuery], PopularPage]) -> PopularPage:
        """The page of a `shareable` query; the same object each time. `make` computes it from the key only. It is not
        stored: a reference cycle with the pipeline would outlive a reload of the model.
        """
        key = (query.page_size, query.category, query.explain != ExplainMode.NONE)
        page = self._pages.get(key)
        if page is None:
            page = self._pages[key] = make(query)
            if len(self._pages) > self._pages_max:
                self._pages.popitem(last=False)
        return page
