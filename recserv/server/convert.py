"""Wire messages <-> recserv's types. Wire messages in are already validated; see `validate`.

Answers are built from nested keyword dictionaries: in upb that is as fast as setting attributes one by one and half the
time of building each message with its own constructor. Empty fields are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from recserv.types import (
    DEFAULT_TENANT,
    PAGE_SIZE_DEFAULT,
    Event,
    EventType,
    ExplainMode,
    Explanation,
    ExplanationState,
    Item,
    Priority,
    Recommendation,
    RecommendQuery,
    Result,
    ShopperContext,
)
from recserv.v1 import recommendation_pb2 as pb

# Unset means REASONS and NORMAL.
_EXPLAIN = {**{int(mode): mode for mode in ExplainMode}, 0: ExplainMode.REASONS}
_PRIORITY = {**{int(priority): priority for priority in Priority}, 0: Priority.NORMAL}
_EVENT_TYPES = {int(kind): kind for kind in EventType}


def enum(value: IntEnum) -> Any:
    """Our enums have the numbers of the wire's; only the type checker sees a difference."""
    return value


def event_from_wire(message: pb.Event) -> Event:
    time = message.event_time if message.HasField("event_time") else None
    return Event(
        event_id=message.event_id,
        event_type=_EVENT_TYPES[message.event_type],
        user_id=message.user_id,
        session_id=message.session_id,
        item_id=message.item_id,
        quantity=message.quantity,
        value=message.value,
        currency_code=message.currency_code,
        search_query=message.search_query,
        event_time_ms=None if time is None else time.seconds * 1000 + time.nanos // 1_000_000,
        dwell_ms=message.dwell_ms,
        recommendation_id=message.recommendation_id,
        impression_item_ids=tuple(message.impression_item_ids),
        properties=dict(message.properties),
    )


def query_from_wire(message: pb.RecommendRequest, tenant: str = DEFAULT_TENANT) -> RecommendQuery:
    return RecommendQuery(
        tenant=tenant,
        session_id=message.session_id,
        user_id=message.user_id,
        placement=message.placement,
        priority=_PRIORITY[message.priority],
        context_events=tuple([event_from_wire(event) for event in message.context_events]),
        anchor_item_ids=tuple(message.anchor_item_ids),
        candidate_item_ids=tuple(message.candidate_item_ids),
        category=message.category,
        page_size=message.page_size or PAGE_SIZE_DEFAULT,
        exclude_item_ids=tuple(message.exclude_item_ids),
        exclude_purchased=message.exclude_purchased if message.HasField("exclude_purchased") else None,
        diversity=message.diversity if message.HasField("diversity") else None,
        explain=_EXPLAIN[message.explain],
        consistency_token=message.consistency_token,
        return_items=message.return_items,
        locale=message.locale,
        device_type=message.device_type,
        user_attributes=dict(message.user_attributes),
        request_id=message.request_id,
    )


def _item(item: Item) -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "title": item.title,
        "description": item.description,
        "brand": item.brand,
        "categories": item.categories,
        "tags": item.tags,
        "price": item.price,
        "currency_code": item.currency_code,
        "available": item.available,
        "image_uri": item.image_uri,
        "attributes": item.attributes,
    }


def _result(result: Result) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "item_id": result.item_id,
        "score": result.score,
        "rank": result.rank,
        "source": result.source,
    }
    if result.reasons:
        fields["reasons"] = [
            {"type": reason.type, "because_item_ids": reason.because_item_ids, "text": reason.text}
            for reason in result.reasons
        ]
    if result.item is not None:
        fields["item"] = _item(result.item)
    if result.explanation:
        fields["explanation"] = result.explanation
    if result.explanation_state:
        fields["explanation_state"] = result.explanation_state
    return fields


def recommendation_to_wire(answer: Recommendation) -> pb.RecommendResponse:
    return pb.RecommendResponse(
        results=[_result(result) for result in answer.results],
        recommendation_id=answer.recommendation_id,
        model_version=answer.model_version,
        degraded=bool(answer.degraded_reasons),
        degraded_reasons=[enum(reason) for reason in answer.degraded_reasons],
        explanation_token=answer.explanation_token,
        missing_item_ids=answer.missing_item_ids,
    )


def context_to_wire(context: ShopperContext) -> pb.GetContextResponse:
    return pb.GetContextResponse(
        recent_item_ids=context.recent_item_ids,
        recent_searches=context.recent_searches,
        cart_item_ids=context.cart_item_ids,
        purchased_item_ids=context.purchased_item_ids,
        event_count=context.event_count,
        category_weights=[{"category": name, "weight": weight} for name, weight in context.category_weights],
    )


def explanation_to_wire(explanation: Explanation) -> pb.Explanation:
    return pb.Explanation(item_id=explanation.item_id, text=explanation.text, state=enum(explanation.state))


def explanations_to_wire(explanations: Sequence[Explanation]) -> pb.GetExplanationsResponse:
    states = {explanation.state for explanation in explanations}
    return pb.GetExplanationsResponse(
        explanations=[explanation_to_wire(explanation) for explanation in explanations],
        state=enum(_overall(states)),
    )


def _overall(states: set[ExplanationState]) -> ExplanationState:
    if ExplanationState.PENDING in states:
        return ExplanationState.PENDING
    return ExplanationState.READY if ExplanationState.READY in states else ExplanationState.TEMPLATE
