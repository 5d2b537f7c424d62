"""Reasons: from the contributions that ranked a result to its source, and to a text that names the item behind it.

The only new computation is which item of the context weighs most. The source is the one that contributes most to the
score, among those that proposed the item. Reasons are ordered by the strength of the evidence, not by its weight in the
ranker, the most specific first: "often bought with X" says more than "chosen by shoppers like you". That the item was
in the session already says most of all. An item is never a reason for itself.
"""

from __future__ import annotations

import numpy as np

from recserv.model.words import alike, cut
from recserv.pipeline.context import Context, Role
from recserv.pipeline.engine import Engine, Floats
from recserv.pipeline.rank import Ranking
from recserv.pipeline.sources import SOURCES, credited
from recserv.pipeline.sources.base import REQUESTED
from recserv.ranking_features import SESSION_COLUMNS, column
from recserv.types import (
    ExplainMode,
    Reason,
    ReasonType,
    RecommendQuery,
    Result,
    Source,
)

VOTES = np.array([column(name) for name in ("context_cosine", "covisitation", "session_knn")])
"""The features that reasons are based on."""
IN_SESSION_COUNT = SESSION_COLUMNS.index("count")
NOT_PERSONAL = {public for kind in SOURCES if not kind.personal for _, public in kind.credits} | {Source.REQUESTED}
"""Sources whose reasons name no item of the context."""
REASON_SCORE_MIN = 0.2
"""Share of the request's strongest co-visitation or session vote from which a vote is worth a sentence."""
REASON_COSINE_MIN = 0.3
REASONS_MAX = 2
LINKED = {
    "bought": (ReasonType.OFTEN_BOUGHT_WITH, "Often bought with"),
    "viewed": (ReasonType.OFTEN_VIEWED_WITH, "Often viewed with"),
}
"""Wording by the kind of event that the model learned from."""
NAMELESS = "an item"
"""Name of an item without a title; its id is in the reason, beside the text."""

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
"""Wording for an item that is in the context itself, from its session or from the profile."""
NOT_ITSELF = np.float32("-inf")


class ReasonBuilder:
    """Finds the item of the context behind each result of a page, by co-visitation and by vector similarity, and the
    wording for it. It is never the result itself, so there may be none (-1). `items`: those of the page. `searched`:
    how each result relates to the newest search; None if there was no search.
    """

    def __init__(self, engine: Engine, page: Ranking, items: list[int], context: Context):
        self._engine = engine
        self._context = context
        self._reasons: dict[tuple[str, int], Reason] = {}
        self.searched = None if context.search is None else Searched(engine, page, context.search[0], context.empty)
        self.linked_kind, self.linked_words = LINKED[engine.snapshot.behaviour]
        size = len(items)
        self.heaviest = -1
        self.own = self.linked = self.nearest = [-1] * size
        if context.empty:
            return
        closeness = (engine.embeddings[page.items] @ engine.embeddings[context.items].T) * context.weights
        self.linked = engine.covisitation.strongest(page.items, context.items, context.weights).tolist()
        self.heaviest = int(context.weights.argmax())
        context_items = context.items.tolist()
        # Most pages repeat few items of the session, many none.
        if not set(context_items).isdisjoint(items):
            context_row_of = {item_row: context_row for context_row, item_row in enumerate(context_items)}
            self.own = [context_row_of.get(item_row, -1) for item_row in items]
            for row, context_row in enumerate(self.own):
                if context_row >= 0:
                    closeness[row, context_row] = NOT_ITSELF
        self.nearest = closeness.argmax(axis=1).tolist()

    def heaviest_but(self, own: int) -> int:
        """The context row of the largest weight other than the result's own; -1 if there is none."""
        return self.heaviest if own != self.heaviest or own < 0 else _second(self._context.weights, own)

    def again(self, context_row: int) -> Reason:
        """The reason for an item that is in the context itself, at this row."""
        role = self._context.roles[context_row]
        return IN_SESSION[role] if self._context.session[context_row, IN_SESSION_COUNT] else BEFORE[role]

    def reason(self, kind: ReasonType, words: str, context_row: int) -> Reason:
        """`words` and the item at a row of the context: "Often bought with COFFEE FILTERS in your cart"."""
        # Many results of a page have the same text.
        known = self._reasons.get((words, context_row))
        if known is None:
            item_row = int(self._context.items[context_row])
            item = self._engine.items.id(item_row)
            # An id means nothing to a shopper, nor to the language model, which gets this text as a hint.
            name = self._engine.items.title(item_row) or NAMELESS
            text = f"{words} {name} {WHERE[self._context.roles[context_row]]}".rstrip()
            known = self._reasons[words, context_row] = Reason(kind, (item,), text)
        return known


class Searched:
    """How each result of a page relates to a search: it contains all or half of its words, or is close to it. The word
    index of the model tells, so that no item has to be decoded and tokenized.
    """

    def __init__(self, engine: Engine, page: Ranking, text: str, alone: bool):
        words = {alike(word): word for word in cut(text)}
        holding = engine.word_search.holding(words, page.items)
        names = list(words.values())
        self._held = [[name for name, has in zip(names, row, strict=True) if has] for row in holding.tolist()]
        self._words, self._text = len(names), text
        self._matches = Reason(ReasonType.MATCHES_SEARCH, (), f'Matches your search "{text}"')
        self._near = Reason(ReasonType.SIMILAR_TO, (), f'Goes with your search "{text}"') if alone else None

    def reason(self, row: int, source: Source) -> Reason | None:
        held = self._held[row]
        if len(held) == self._words:
            return self._matches
        if 2 * len(held) >= self._words:
            return Reason(ReasonType.SIMILAR_TO, (), f'Has "{" ".join(held)}" of your search "{self._text}"')
        return self._near if source == Source.CONTEXT_VECTOR else None


def _second(weights: Floats, largest: int) -> int:
    """The context row of the second largest weight; -1 if there is none."""
    others = weights.copy()
    others[largest] = NOT_ITSELF
    return int(others.argmax()) if len(others) > 1 else -1


def explain(engine: Engine, page: Ranking, context: Context, query: RecommendQuery) -> tuple[Result, ...]:
    """The results of a page with their sources, and with reasons unless the query wants none."""
    items, scores, contributions, source_masks = (
        page.items.tolist(),
        page.scores.tolist(),
        page.contributions.tolist(),
        page.source_masks.tolist(),
    )
    builder = ReasonBuilder(engine, page, items, context) if query.explain != ExplainMode.NONE else None
    votes = page.features[:, VOTES].tolist() if builder else []
    ids = engine.items.ids
    results = []
    for row, item_row in enumerate(items):
        source = source_of(contributions[row], source_masks[row])
        reasons = reasons_of(engine, builder, row, item_row, votes[row], source, query) if builder else ()
        results.append(
            Result(
                item_id=ids[item_row],
                score=scores[row],
                rank=row + 1,
                source=source,
                reasons=reasons,
                item=engine.items.get(item_row) if query.return_items else None,
            )
        )
    return tuple(results)


def source_of(contributions: list[float], source_mask: int) -> Source:
    """The source that contributes most among those that proposed the item; REQUESTED for an item that only the request
    names.
    """
    best, most = Source.REQUESTED, 0.0 if source_mask & REQUESTED else float("-inf")
    for group, source in credited(source_mask):
        if contributions[group] > most:
            best, most = source, contributions[group]
    return best


def reasons_of(
    engine: Engine,
    builder: ReasonBuilder,
    row: int,
    item_row: int,
    votes: list[float],
    source: Source,
    query: RecommendQuery,
) -> tuple[Reason, ...]:
    """At most REASONS_MAX, the most specific first; none for an item that only the request names. `votes`: its
    features at VOTES.
    """
    told: list[Reason] = []
    if builder.searched is not None and (searched := builder.searched.reason(row, source)) is not None:
        told.append(searched)
    if (own := builder.own[row]) >= 0:
        told.append(builder.again(own))
    heaviest = builder.heaviest_but(own)
    if heaviest < 0 or source in NOT_PERSONAL:
        if told:
            return tuple(told)
        return () if source == Source.REQUESTED else (_popular(engine, item_row, source, query),)
    cosine, covisitation, session_knn = votes
    linked = builder.linked[row]
    if covisitation >= REASON_SCORE_MIN and linked >= 0:
        told.append(builder.reason(builder.linked_kind, builder.linked_words, linked))
    if session_knn >= REASON_SCORE_MIN or (not told and source == Source.SESSION_KNN):
        context_row = linked if linked >= 0 else heaviest
        told.append(builder.reason(ReasonType.SIMILAR_SESSIONS, "Chosen by shoppers who also chose", context_row))
    if len(told) < REASONS_MAX and (cosine >= REASON_COSINE_MIN or not told):
        told.append(builder.reason(ReasonType.SIMILAR_TO, "Goes with", builder.nearest[row]))
    return tuple(told[:REASONS_MAX])


def _popular(engine: Engine, item_row: int, source: Source, query: RecommendQuery) -> Reason:
    if source == Source.POPULAR_IN_CATEGORY:
        categories = engine.categories_of(item_row).tolist()
        name = query.category or (engine.snapshot.category_names[categories[-1]] if categories else "")
        return Reason(ReasonType.POPULAR_IN_CATEGORY, (), f"Popular in {name}")
    if source == Source.TRENDING:
        return Reason(ReasonType.TRENDING, (), "Popular lately")
    return Reason(ReasonType.POPULAR, (), "Popular in this shop")
