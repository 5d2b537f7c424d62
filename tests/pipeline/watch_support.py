"""What the tests of watches share: answers and events."""

from __future__ import annotations

from msgspec.structs import replace

from recserv.types import (
    Event,
    EventType,
    Reason,
    ReasonType,
    Recommendation,
    RecommendQuery,
    Result,
    Source,
)

QUERY = RecommendQuery(session_id="s")


def answer(*item_ids: str, **changes: object) -> Recommendation:
    reasons = (Reason(ReasonType.POPULAR),)
    results = tuple(
        Result(item_id=item_id, score=1 / rank, rank=rank, source=Source.POPULAR, reasons=reasons)
        for rank, item_id in enumerate(item_ids or ("a", "b"), 1)
    )
    whole = Recommendation(results=results, recommendation_id="r", model_version="m")
    return replace(whole, **changes)


def event(session_id: str = "", user_id: str = "") -> Event:
    return Event(event_id="e", event_type=EventType.VIEW, session_id=session_id, user_id=user_id, item_id="i")


def with_first(whole: Recommendation, **changes: object) -> Recommendation:
    first, *rest = whole.results
    return replace(whole, results=(replace(first, **changes), *rest))
