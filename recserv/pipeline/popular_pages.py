"""Popular pages that are the same for everybody, kept: what an overloaded server has to say at the least cost.

    (page size, category, with reasons?) -> the page, the same object for all

Of a shopper of whom nothing is known and who rules out nothing that is on it, this is the page.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from recserv.pipeline.rank import Ranking
from recserv.types import ExplainMode, RecommendQuery, Result, Source

PAGES_MAX = 64
"""Categories are the callers' words: of more pages than these the oldest is made again."""


class PopularPage(NamedTuple):
    ranking: Ranking
    results: tuple[Result, ...]
    sources: Counter[Source]
    """Results by source."""
    item_rows: frozenset[int]
    """Of its items. Whoever rules out none of them would get the same page by themselves."""


def popular_page(ranking: Ranking, results: tuple[Result, ...]) -> PopularPage:
    sources = Counter(result.source for result in results)
    return PopularPage(ranking, results, sources, frozenset(ranking.items.tolist()))


def shareable(query: RecommendQuery) -> bool:
    """Whether the page is the same for the next who asks so. Whole items would be too much to keep."""
    return not query.candidate_item_ids and not query.return_items


class PopularPages:
    """Belongs to one model."""

    def __init__(self, pages_max: int = PAGES_MAX):
        self._pages_max = pages_max
        self._pages: OrderedDict[tuple[int, str, bool], PopularPage] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pages)

    def get(self, query: RecommendQuery, make: Callable[[RecommendQuery], PopularPage]) -> PopularPage:
        """The page of a `shareable` query; the same object each time. `make`: from nothing but what is in its key. It
        is not kept: a pipeline that is part of a cycle would outlive its model's reload.
        """
        key = (query.page_size, query.category, query.explain != ExplainMode.NONE)
        page = self._pages.get(key)
        if page is None:
            page = self._pages[key] = make(query)
            if len(self._pages) > self._pages_max:
                self._pages.popitem(last=False)
        return page
