"""Popular items: of a category, overall, and recent. Every item has a popularity, so any can be credited to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recserv.pipeline.sources.base import ALL, CandidateSource, Found, Inquiry, Parts
from recserv.types import Source

if TYPE_CHECKING:
    from recserv._rank import CandidateTable

SESSION_CATEGORIES = 2
CATEGORY_CANDIDATES = 12


class PopularInCategory(CandidateSource):
    """Popular items of the requested category, else of the session's main ones. All of a small category, if there is no
    context vector to rank them by.
    """

    bit = 16
    credits = (("popular", Source.POPULAR_IN_CATEGORY), ("trending", Source.POPULAR_IN_CATEGORY))
    personal = False

    def __init__(self, parts: Parts):
        self._members = parts.members
        self._offsets = parts.snapshot.category_popular_offsets
        self._items = parts.snapshot.category_popular_items

    def limit(self, inquiry: Inquiry) -> int:
        return 0 if inquiry.category is None else ALL

    def top(self, inquiry: Inquiry, k: int) -> Found:
        category = inquiry.category
        assert category is not None
        if inquiry.small and not inquiry.directed:
            return self._members.of(category), None
        return self._items[self._offsets[category] : self._offsets[category + 1]], None

    def fill(self, table: CandidateTable, inquiry: Inquiry) -> None:
        if inquiry.category is not None or inquiry.requested is not None:
            super().fill(table, inquiry)
        elif inquiry.settings.popular_candidates:
            # The table finds the first items that may be shown.
            table.put_categories(
                inquiry.items,
                inquiry.weights,
                self._offsets,
                self._items,
                self.bit,
                SESSION_CATEGORIES,
                CATEGORY_CANDIDATES,
            )


class Popular(CandidateSource):
    """Popular items overall and recently, if no category is requested."""

    bit = 8
    credits = (("popular", Source.POPULAR), ("trending", Source.TRENDING))
    knows_all = True
    personal = False
    setting, alone = "popular_candidates", "popularity"

    def __init__(self, parts: Parts):
        self._head = parts.popular_head

    def limit(self, inquiry: Inquiry) -> int:
        want = inquiry.settings.popular_candidates
        return max(want, inquiry.page_size) if want and inquiry.category is None else 0

    def top(self, inquiry: Inquiry, k: int) -> Found:
        return self._head, None
