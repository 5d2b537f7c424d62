"""Reasons: from the shares that ranked a result to its source, and to words that name the item behind it.

Nothing is computed anew but which item of the context weighs most. A co-visitation that had a fair part is named before
a larger but vaguer share, since "often bought with X" says more than "chosen by shoppers like you".
"""

from __future__ import annotations

import numpy as np

from recserv._rank import FEATURE_NAMES
from recserv.pipeline.context import Context, Role
from recserv.pipeline.engine import Engine
from recserv.pipeline.rank import Ranking
from recserv.types import (
    ExplainMode,
    ExplanationState,
    Reason,
    ReasonType,
    RecommendQuery,
    Result,
    Source,
)

COSINE, COVISITATION, SESSION_KNN, POPULARITY, POPULARITY_RECENT, IN_SESSION = range(len(FEATURE_NAMES))
SOURCE_OF = {
    COSINE: Source.CONTEXT_VECTOR,
    COVISITATION: Source.COVISITATION,
    SESSION_KNN: Source.SESSION_KNN,
    POPULARITY: Source.POPULAR,
    POPULARITY_RECENT: Source.TRENDING,
}
FAIR_SHARE = 0.25
"""Of the largest share: a co-visitation with so much is named first."""
REASONS_MAX = 2

WHERE = {
    Role.TASTE: "you liked before",
    Role.VIEWED: "you viewed",
    Role.SEARCHED: "you searched for",
    Role.IN_CART: "in your cart",
    Role.BOUGHT: "you bought",
    Role.REJECTED: "you saw",
    Role.ANCHOR: "",
}


def explain(engine: Engine, page: Ranking, context: Context, query: RecommendQuery) -> tuple[Result, ...]:
    """The results of a page with source, and with reasons unless the query wants none."""
    reasoned = query.explain != ExplainMode.NONE
    results = []
    for row, (at, score) in enumerate(zip(page.items.tolist(), page.scores.tolist(), strict=True)):
        shares = page.shares[row].tolist()
        source = source_of(shares, at in page.in_category)
        reasons = reasons_of(engine, context, at, shares, source, query) if reasoned else ()
        text = reasons[0].text if query.explain == ExplainMode.LLM_ASYNC and reasons else ""
        results.append(
            Result(
                item_id=engine.items.id(at),
                score=score,
                rank=row + 1,
                source=source,
                reasons=reasons,
                item=engine.items.get(at) if query.return_items else None,
                explanation=text,
                explanation_state=ExplanationState.TEMPLATE if text else ExplanationState.UNSPECIFIED,
            )
        )
    return tuple(results)


def source_of(shares: list[float], in_category: bool) -> Source:
    """The source with the largest positive share; REQUESTED if there is none."""
    best = max(SOURCE_OF, key=shares.__getitem__)
    if shares[best] <= 0:
        return Source.REQUESTED
    if in_category and best in (POPULARITY, POPULARITY_RECENT):
        return Source.POPULAR_IN_CATEGORY
    return SOURCE_OF[best]


def reasons_of(
    engine: Engine, context: Context, at: int, shares: list[float], source: Source, query: RecommendQuery
) -> tuple[Reason, ...]:
    largest = max(shares)
    told: list[Reason] = []
    linked = -1
    if shares[COVISITATION] > 0 and shares[COVISITATION] >= FAIR_SHARE * largest:
        linked = engine.covisitation.strongest(at, context.items, context.weights)
    if linked >= 0:
        told.append(_often_with(engine, context, linked))
    if shares[SESSION_KNN] >= FAIR_SHARE * largest and shares[SESSION_KNN] > 0:
        told.append(_similar_sessions(engine, context, linked))
    if shares[COSINE] >= FAIR_SHARE * largest and shares[COSINE] > 0 and len(told) < REASONS_MAX:
        told.append(_similar(engine, context, at))
    if not told and source != Source.REQUESTED:
        told.append(_popular(engine, at, source, query))
    return tuple(told[:REASONS_MAX])


def _often_with(engine: Engine, context: Context, linked: int) -> Reason:
    bought = engine.snapshot.behaviour == "bought"
    kind = ReasonType.OFTEN_BOUGHT_WITH if bought else ReasonType.OFTEN_VIEWED_WITH
    words = "Often bought with" if bought else "Often viewed with"
    return Reason(kind, (_id(engine, context, linked),), f"{words} {_name(engine, context, linked)}")


def _similar_sessions(engine: Engine, context: Context, linked: int) -> Reason:
    newest = linked if linked >= 0 else int(np.argmax(context.weights))
    text = f"Chosen by shoppers who also chose {_name(engine, context, newest)}"
    return Reason(ReasonType.SIMILAR_SESSIONS, (_id(engine, context, newest),), text)


def _similar(engine: Engine, context: Context, at: int) -> Reason:
    closeness = (engine.embeddings[context.items] @ engine.embeddings[at]) * context.weights
    nearest = int(np.argmax(closeness))
    return Reason(
        ReasonType.SIMILAR_TO, (_id(engine, context, nearest),), f"Goes with {_name(engine, context, nearest)}"
    )


def _popular(engine: Engine, at: int, source: Source, query: RecommendQuery) -> Reason:
    if source == Source.POPULAR_IN_CATEGORY:
        categories = engine.categories_of(at).tolist()
        name = query.category or (engine.snapshot.category_names[categories[-1]] if categories else "")
        return Reason(ReasonType.POPULAR_IN_CATEGORY, (), f"Popular in {name}")
    if source == Source.TRENDING:
        return Reason(ReasonType.TRENDING, (), "Popular lately")
    return Reason(ReasonType.POPULAR, (), "Popular in this shop")


def _id(engine: Engine, context: Context, place: int) -> str:
    return engine.items.id(int(context.items[place]))


def _name(engine: Engine, context: Context, place: int) -> str:
    """Title (else id) and how the shopper met the item: "COFFEE FILTERS in your cart"."""
    at = int(context.items[place])
    name = engine.items.title(at) or engine.items.id(at)
    return f"{name} {WHERE[context.roles[place]]}".rstrip()
