"""The last resort: popular items, from memory, when there is no time or source for more; and the backfill of short
pages.

It needs only the model's popularity order, so no dependency can make it fail.
"""

from __future__ import annotations

import numpy as np

from recserv.pipeline.engine import Engine, ItemRows
from recserv.pipeline.rank import Ranking
from recserv.pipeline.sources.popular import Popular, PopularInCategory
from recserv.ranking_features import CONTRIBUTION_NAMES, FEATURE_NAMES, column, contribution
from recserv.types import RecommendQuery

POPULARITY = column("popularity")
POPULAR_CONTRIBUTION = contribution("popular")


NONE_TAKEN = np.empty(0, np.int32)


def popular(
    engine: Engine, query: RecommendQuery, blocked: ItemRows, size: int, taken: ItemRows = NONE_TAKEN
) -> Ranking:
    """The `size` most popular items that may be shown, within the query's category or candidates if it names some. One
    variant of each product, unless they are candidates; no variants of the items in `taken` (int32).
    """
    category = engine.snapshot.category_number(query.category) if query.category else None
    if category is not None and category < 0:
        return _ranking(engine, np.empty(0, np.int32), False)
    within = None
    if query.candidate_item_ids:
        within = category
        requested = {engine.items.row(item) for item in query.candidate_item_ids} - {-1}
        wanted = np.fromiter(requested, np.int32, len(requested))
        order = wanted[np.lexsort((wanted, -engine.popularity[wanted]))]
    else:
        order = engine.popular_order if category is None else engine.category_items(category)
        if engine.variants is None:
            # All items in these orders may be shown unless blocked.
            order = order[: size + len(blocked)]
    with engine.allowing(within, blocked) as allowed:
        if engine.variants is None or query.candidate_item_ids:
            items = order[allowed[order] != 0][:size]
        else:
            items = order[engine.variants.first(order, size, allowed=allowed, taken=taken)]
    return _ranking(engine, items, category is not None)


def backfill(engine: Engine, ranking: Ranking, query: RecommendQuery, blocked: ItemRows) -> Ranking:
    """The ranking, filled up with popular items if it is shorter than a page and the shop has more to show."""
    missing = query.page_size - len(ranking.items)
    if missing <= 0 or query.candidate_item_ids:
        return ranking
    ruled_out = np.unique(np.concatenate((blocked, ranking.items)))
    more = popular(engine, query, ruled_out, missing, taken=ranking.items)
    if not len(more.items):
        return ranking
    # Below the ranked ones, on whatever scale their scores are: scores fall with rank.
    floor = min(float(ranking.scores[-1]), 0.0) if len(ranking.scores) else 0.0
    scores = more.scores + np.float32(floor - more.scores.max(initial=0.0))
    return Ranking(
        np.concatenate((ranking.items, more.items)),
        np.concatenate((ranking.scores, scores if len(ranking.scores) else more.scores)),
        np.concatenate((ranking.features, more.features)),
        np.concatenate((ranking.contributions, more.contributions)),
        np.concatenate((ranking.source_masks, more.source_masks)),
    )


def _ranking(engine: Engine, items: ItemRows, in_category: bool) -> Ranking:
    scores = engine.popularity[items]
    features = np.zeros((len(items), len(FEATURE_NAMES)), np.float32)
    features[:, POPULARITY] = scores
    contributions = np.zeros((len(items), len(CONTRIBUTION_NAMES)), np.float32)
    # Above 0 even for an item that was never bought, since popularity is what it is credited to.
    contributions[:, POPULAR_CONTRIBUTION] = np.maximum(scores, np.float32(1e-6))
    source_masks = np.full(len(items), (PopularInCategory if in_category else Popular).bit, np.uint8)
    return Ranking(items, scores, features, contributions, source_masks)
