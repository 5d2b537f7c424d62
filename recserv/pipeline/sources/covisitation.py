"""Neighbours of the newest items: what shoppers turned to before and after them."""

from __future__ import annotations

from recserv import _candidates
from recserv.pipeline.sources.base import Floats, Inquiry, ItemRows, ListSource, Parts
from recserv.ranking_features import column
from recserv.types import Source


class Covisitation(ListSource):
    bit = 2
    credits = (("covisitation", Source.COVISITATION),)
    setting, alone = "covisitation_candidates", "covisitation"
    score_column, rank_column = column("covisitation"), column("covisitation_rank")

    def __init__(self, parts: Parts):
        model = parts.snapshot
        kernel = _candidates.Covisitation(
            model.covisitation_offsets, model.covisitation_items, model.covisitation_weights
        )
        super().__init__(kernel, parts.variants)
        self.strongest = kernel.strongest

    def limit(self, inquiry: Inquiry) -> int:
        """Shoppers return to items: those of the context are in each other's lists, and in their own."""
        settings = inquiry.settings
        want = settings.covisitation_candidates
        return want and want + min(len(inquiry.items), settings.covisitation_items_max) + inquiry.extra

    def context(self, inquiry: Inquiry) -> tuple[ItemRows, Floats]:
        recent = inquiry.settings.covisitation_items_max
        return inquiry.items[-recent:], inquiry.weights[-recent:]
