"""Reranking: the best -> a page, with one variant of a product, and diverse if that was asked for.

Of variants (items with the same `group_id`) a page has the best by score of those that may be shown. The candidates
that a request names are the caller's choice: all of them stay.
"""

from __future__ import annotations

from recserv._rerank import diversify
from recserv.pipeline.engine import Engine
from recserv.pipeline.rank import Ranking
from recserv.types import RecommendQuery

DIVERSIFIED_MIN = 100


def places_to_rank(engine: Engine, query: RecommendQuery) -> int:
    """How many of the candidates must be ranked for `rerank` to make a page of: all where some are variants."""
    if engine.variants is not None:
        return engine.table.count
    return diversified(query) if query.diversity else query.page_size


def diversified(query: RecommendQuery) -> int:
    """How many candidates diversity chooses from."""
    return max(DIVERSIFIED_MIN, 2 * query.page_size)


def rerank(engine: Engine, ranking: Ranking, query: RecommendQuery) -> Ranking:
    """The page: one of the variants of a product, the best by relevance, or with diversity by maximal marginal
    relevance over all that were ranked.
    """
    if engine.variants is not None:
        keep = diversified(query) if query.diversity else query.page_size
        variants = engine.variants
        ranking = ranking.rows(slice(0, keep) if query.candidate_item_ids else variants.first(ranking.items, keep))
    size = min(query.page_size, len(ranking.items))
    if not query.diversity:
        return ranking.rows(slice(0, size))
    return ranking.rows(diversify(ranking.items, ranking.scores, engine.embeddings, query.diversity, size))
