"""Reranking: the best candidates -> a page, with one variant of each product, and diverse if requested.

Of the variants of a product (items with the same `group_id`), a page shows the best by score that may be shown.
Candidates that the request names are the caller's choice: all of them stay.
"""

from __future__ import annotations

from recserv._rerank import diversify
from recserv.pipeline.engine import Engine
from recserv.pipeline.rank import Ranking
from recserv.types import RecommendQuery

DIVERSIFIED_MIN = 100


def places_to_rank(engine: Engine, query: RecommendQuery) -> int:
    """How many candidates must be ranked for `rerank` to build a page: all of them if some are variants."""
    if engine.variants is not None:
        return engine.table.count
    return diversified(query) if query.diversity else query.page_size


def diversified(query: RecommendQuery) -> int:
    """The number of candidates that diversity selects from."""
    return max(DIVERSIFIED_MIN, 2 * query.page_size)


def rerank(engine: Engine, ranking: Ranking, query: RecommendQuery) -> Ranking:
    """The page, with one variant of each product: the best by relevance, or with diversity by maximal marginal
    relevance over the first `diversified(query)`.
    """
    if engine.variants is not None:
        keep = diversified(query) if query.diversity else query.page_size
        variants = engine.variants
        ranking = ranking.rows(slice(0, keep) if query.candidate_item_ids else variants.first(ranking.items, keep))
    size = min(query.page_size, len(ranking.items))
    if not query.diversity:
        return ranking.rows(slice(0, size))
    return ranking.rows(diversify(ranking.items, ranking.scores, engine.embeddings, query.diversity, size))
