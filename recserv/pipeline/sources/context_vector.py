"""Items near the context vector: those that the index found (`Retrieval.search`), or all of a small category, of which
a graph search's k results would contain too few. The table computes exact cosines; only the order is taken from here.
"""

from __future__ import annotations

from recserv.pipeline.sources.base import ALL, NOTHING, CandidateSource, Found, Inquiry, Parts
from recserv.ranking_features import column
from recserv.types import Source


class ContextVector(CandidateSource):
    bit = 1
    credits = (("context_vector", Source.CONTEXT_VECTOR),)
    knows_all = True
    setting, alone = "search_candidates", "context_cosine"
    rank_column = column("search_rank")

    def __init__(self, parts: Parts):
        self._members = parts.members

    def limit(self, inquiry: Inquiry) -> int:
        """All: the search has been told how many to find."""
        return ALL

    def top(self, inquiry: Inquiry, k: int) -> Found:
        if inquiry.category is None or not inquiry.small:
            return inquiry.neighbours
        return (self._members.of(inquiry.category), None) if inquiry.directed else NOTHING
