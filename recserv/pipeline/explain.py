"""Reasons: from the shares that ranked a result to its source, and to words that name the item behind it.

Nothing is computed anew but which item of the context weighs most. The source is, of those that named the item, the one
with the largest share of the score.
Reasons go by how strong the evidence is, not by how much the ranker makes of it, the most telling first: "often bought
with X" says more than "chosen by shoppers like you". That an item was in the session already says most of all; it is
never a reason for itself.
"""

from __future__ import annotations

import numpy as np

from recserv._rank import FEATURE_NAMES, NAMED_BY, SESSION_COLUMNS, SHARE_NAMES
from recserv.model.words import alike, cut, item_words
from recserv.pipeline.context import Context, Role
from recserv.pipeline.engine import Engine, Floats
from recserv.pipeline.rank import Ranking
from recserv.types import (
    ExplainMode,
    Reason,
    ReasonType,
    RecommendQuery,
    Result,
    Source,
)

COSINE = FEATURE_NAMES.index("context_cosine")
COVISITATION = FEATURE_NAMES.index("covisitation")
SESSION_KNN = FEATURE_NAMES.index("session_knn")
IN_SESSION_COUNT = SESSION_COLUMNS.index("count")
BY_CATEGORY, BY_GIVEN = NAMED_BY["category"], NAMED_BY["given"]
ANY_POPULAR = NAMED_BY["popular"] | BY_CATEGORY
SOURCES = (
    (SHARE_NAMES.index("context_vector"), Source.CONTEXT_VECTOR, NAMED_BY["context_vector"] | BY_GIVEN),
    (SHARE_NAMES.index("covisitation"), Source.COVISITATION, NAMED_BY["covisitation"]),
    (SHARE_NAMES.index("session_knn"), Source.SESSION_KNN, NAMED_BY["session_knn"]),
    (SHARE_NAMES.index("popular"), Source.POPULAR, ANY_POPULAR | BY_GIVEN),
    (SHARE_NAMES.index("trending"), Source.TRENDING, ANY_POPULAR | BY_GIVEN),
)
"""Column of the shares, the source, and the lists that an item must be named by for it to be the source."""
POPULAR_SOURCES = (Source.POPULAR, Source.POPULAR_IN_CATEGORY, Source.TRENDING, Source.REQUESTED)
TELLING = 0.2
"""Of the request's strongest co-visitation or session vote: from here on it is worth a sentence."""
TELLING_COSINE = 0.3
REASONS_MAX = 2
NAMELESS = "an item"
"""What has no title; its id is in the reason beside the text."""

WHERE = {
    Role.TASTE: "you liked before",
    Role.VIEWED: "you viewed",
    Role.IN_CART: "in your cart",
    Role.BOUGHT: "you bought",
    Role.REJECTED: "you saw",
    Role.ANCHOR: "",
}
AGAIN = {
    Role.TASTE: "You liked this before",
    Role.VIEWED: "You viewed this",
    Role.IN_CART: "In your cart",
    Role.BOUGHT: "You bought this",
    Role.REJECTED: "You saw this",
    Role.ANCHOR: "You asked about this",
}
IN_SESSION = {role: Reason(ReasonType.ALREADY_IN_SESSION, (), text) for role, text in AGAIN.items()}
BEFORE = {role: Reason(ReasonType.SIMILAR_TO, (), text) for role, text in AGAIN.items()}
"""Of an item that is in the context itself: of its session, or of what outlives that."""
NOT_ITSELF = np.float32("-inf")


class Because:
    """Which item of the context stands behind each result of a page: by co-visitation, by nearness; and its words. It
    is another item than the result, so there may be none: -1.
    """

    def __init__(self, engine: Engine, page: Ranking, context: Context):
        self._engine = engine
        self._context = context
        self._reasons: dict[tuple[ReasonType, int], Reason] = {}
        self._searched = {alike(word): word for word in cut(context.search[0])} if context.search else {}
        size = len(page.items)
        self.own, self.linked, self.nearest, self.heaviest = [-1] * size, [-1] * size, [-1] * size, [-1] * size
        if context.empty:
            return
        closeness = (engine.embeddings[page.items] @ engine.embeddings[context.items].T) * context.weights
        self.linked = engine.covisitation.strongest(page.items, context.items, context.weights).tolist()
        self.heaviest = [int(context.weights.argmax())] * size
        place_of = {at: place for place, at in enumerate(context.items.tolist())}
        for row, at in enumerate(page.items.tolist()):
            place = place_of.get(at, -1)
            if place < 0:
                continue
            self.own[row] = place
            closeness[row, place] = NOT_ITSELF
            if self.heaviest[row] == place:
                self.heaviest[row] = _second(context.weights, place)
        self.nearest = closeness.argmax(axis=1).tolist()

    def again(self, place: int) -> Reason:
        """What is said of the item at a place of the context itself: of its session, or of what outlives it."""
        role = self._context.roles[place]
        return IN_SESSION[role] if self._context.session[place, IN_SESSION_COUNT] else BEFORE[role]

    def search(self, at: int, source: Source) -> Reason | None:
        """What the newest search has to do with an item: it holds its words, all or half of them, or lies near it."""
        if self._context.search is None:
            return None
        text = self._context.search[0]
        words = item_words(self._engine.items.get(at))
        held = [word for key, word in self._searched.items() if key in words]
        if len(held) == len(self._searched):
            return Reason(ReasonType.MATCHES_SEARCH, (), f'Matches your search "{text}"')
        if 2 * len(held) >= len(self._searched):
            return Reason(ReasonType.SIMILAR_TO, (), f'Has "{" ".join(held)}" of your search "{text}"')
        if source == Source.CONTEXT_VECTOR and self._context.empty:
            return Reason(ReasonType.SIMILAR_TO, (), f'Goes with your search "{text}"')
        return None

    def reason(self, kind: ReasonType, words: str, place: int) -> Reason:
        """`words` and the item at a place of the context: "Often bought with COFFEE FILTERS in your cart"."""
        # A page says the same of many of its results.
        known = self._reasons.get((kind, place))
        if known is None:
            at = int(self._context.items[place])
            item = self._engine.items.id(at)
            # An id says nothing to a shopper, and this text is a model's hint, too.
            name = self._engine.items.title(at) or NAMELESS
            text = f"{words} {name} {WHERE[self._context.roles[place]]}".rstrip()
            known = self._reasons[kind, place] = Reason(kind, (item,), text)
        return known


def _second(weights: Floats, largest: int) -> int:
    """The place of the largest weight but one; -1 if there is no other."""
    others = weights.copy()
    others[largest] = NOT_ITSELF
    return int(others.argmax()) if len(others) > 1 else -1


def explain(engine: Engine, page: Ranking, context: Context, query: RecommendQuery) -> tuple[Result, ...]:
    """The results of a page with source, and with reasons unless the query wants none."""
    because = Because(engine, page, context) if query.explain != ExplainMode.NONE else None
    items, scores, shares, named = page.items.tolist(), page.scores.tolist(), page.shares.tolist(), page.named.tolist()
    features = page.features.tolist() if because else []
    id_of = engine.items.id
    results = []
    for row, at in enumerate(items):
        source = source_of(shares[row], named[row])
        reasons = reasons_of(engine, because, row, at, features[row], source, query) if because else ()
        results.append(
            Result(
                item_id=id_of(at),
                score=scores[row],
                rank=row + 1,
                source=source,
                reasons=reasons,
                item=engine.items.get(at) if query.return_items else None,
            )
        )
    return tuple(results)


def source_of(shares: list[float], named: int) -> Source:
    """Of the sources that named the item the one with the largest share; REQUESTED for an item that was asked for and
    that nothing else speaks for.
    """
    best, most = Source.REQUESTED, 0.0 if named & BY_GIVEN else float("-inf")
    for column, source, lists in SOURCES:
        if named & lists and shares[column] > most:
            best, most = source, shares[column]
    if named & BY_CATEGORY and best in (Source.POPULAR, Source.TRENDING):
        return Source.POPULAR_IN_CATEGORY
    return best


def reasons_of(
    engine: Engine,
    because: Because,
    row: int,
    at: int,
    features: list[float],
    source: Source,
    query: RecommendQuery,
) -> tuple[Reason, ...]:
    """At most REASONS_MAX, the most telling first; none for an item that nothing but the request speaks for."""
    told: list[Reason] = []
    if (searched := because.search(at, source)) is not None:
        told.append(searched)
    if (place := because.own[row]) >= 0:
        told.append(because.again(place))
    if because.heaviest[row] < 0 or source in POPULAR_SOURCES:
        if told:
            return tuple(told)
        return () if source == Source.REQUESTED else (_popular(engine, at, source, query),)
    linked = because.linked[row]
    if features[COVISITATION] >= TELLING and linked >= 0:
        if engine.snapshot.behaviour == "bought":
            told.append(because.reason(ReasonType.OFTEN_BOUGHT_WITH, "Often bought with", linked))
        else:
            told.append(because.reason(ReasonType.OFTEN_VIEWED_WITH, "Often viewed with", linked))
    if features[SESSION_KNN] >= TELLING or (not told and source == Source.SESSION_KNN):
        place = linked if linked >= 0 else because.heaviest[row]
        told.append(because.reason(ReasonType.SIMILAR_SESSIONS, "Chosen by shoppers who also chose", place))
    if len(told) < REASONS_MAX and (features[COSINE] >= TELLING_COSINE or not told):
        told.append(because.reason(ReasonType.SIMILAR_TO, "Goes with", because.nearest[row]))
    return tuple(told[:REASONS_MAX])


def _popular(engine: Engine, at: int, source: Source, query: RecommendQuery) -> Reason:
    if source == Source.POPULAR_IN_CATEGORY:
        categories = engine.categories_of(at).tolist()
        name = query.category or (engine.snapshot.category_names[categories[-1]] if categories else "")
        return Reason(ReasonType.POPULAR_IN_CATEGORY, (), f"Popular in {name}")
    if source == Source.TRENDING:
        return Reason(ReasonType.TRENDING, (), "Popular lately")
    return Reason(ReasonType.POPULAR, (), "Popular in this shop")
