"""The last answer: popular items, from memory, when there is no time or source for more; and what fills a short page.

It needs nothing but the model's popularity order, so it cannot fail for a dependency's sake.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recserv._rank import FEATURE_NAMES, NAMED_BY, SHARE_NAMES
from recserv.pipeline.engine import Engine, Positions
from recserv.pipeline.rank import Ranking
from recserv.types import RecommendQuery

POPULARITY = FEATURE_NAMES.index("popularity")
POPULAR_SHARE = SHARE_NAMES.index("popular")


def popular(engine: Engine, query: RecommendQuery, blocked: Positions, size: int) -> Ranking:
    """The `size` most popular items that may be shown; of the query's category or candidates if it names some."""
    category = engine.snapshot.category_position(query.category) if query.category else None
    if category is not None and category < 0:
        return _ranking(engine, np.empty(0, np.int32), False)
    order = engine.popular_order
    if query.candidate_item_ids:
        given = {engine.items.position(item) for item in query.candidate_item_ids} - {-1}
        wanted = np.fromiter(given, np.int32, len(given))
        order = wanted[np.lexsort((wanted, -engine.popularity[wanted]))]
    with engine.allowing(category, blocked) as allowed:
        items = first_allowed(order, allowed, size)
    return _ranking(engine, items, category is not None)


def filled(engine: Engine, ranking: Ranking, query: RecommendQuery, blocked: Positions) -> Ranking:
    """The ranking, with popular items behind it if it is shorter than a page and the shop has more to show."""
    missing = query.page_size - len(ranking.items)
    if missing <= 0 or query.candidate_item_ids:
        return ranking
    more = popular(engine, query, np.unique(np.concatenate((blocked, ranking.items))), missing)
    if not len(more.items):
        return ranking
    # Behind the ranked ones, whatever scale their scores have: scores fall with rank.
    floor = min(float(ranking.scores[-1]), 0.0) if len(ranking.scores) else 0.0
    scores = more.scores + np.float32(floor - more.scores.max(initial=0.0))
    return Ranking(
        np.concatenate((ranking.items, more.items)),
        np.concatenate((ranking.scores, scores if len(ranking.scores) else more.scores)),
        np.concatenate((ranking.features, more.features)),
        np.concatenate((ranking.shares, more.shares)),
        np.concatenate((ranking.named, more.named)),
    )


def first_allowed(order: Positions, allowed: npt.NDArray[np.uint8], k: int) -> Positions:
    """The first k allowed positions of an order; looks at it piece by piece, since nearly always the first will do."""
    kept: list[Positions] = []
    missing, step = k, max(2 * k, 64)
    for begin in range(0, len(order), step):
        piece = order[begin : begin + step]
        piece = piece[allowed[piece] != 0][:missing]
        kept.append(piece)
        missing -= len(piece)
        if missing <= 0:
            break
    return np.concatenate(kept) if kept else np.empty(0, np.int32)


def _ranking(engine: Engine, items: Positions, in_category: bool) -> Ranking:
    scores = engine.popularity[items]
    features = np.zeros((len(items), len(FEATURE_NAMES)), np.float32)
    features[:, POPULARITY] = scores
    shares = np.zeros((len(items), len(SHARE_NAMES)), np.float32)
    # A trace of popularity even for an item never bought: popular is what this source is, however little.
    shares[:, POPULAR_SHARE] = np.maximum(scores, np.float32(1e-6))
    named = np.full(len(items), NAMED_BY["category" if in_category else "popular"], np.uint8)
    return Ranking(items, scores, features, shares, named)
