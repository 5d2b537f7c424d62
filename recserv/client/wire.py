"""The wire on the client's side: `recserv.types` <-> messages, nothing else.

An enum's value that a newer server knows and this client does not becomes UNSPECIFIED.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeVar

import msgspec

from recserv import v1 as pb
from recserv.client.failures import CallFailed, failure_of_status
from recserv.types import (
    PRIORITY_METADATA,
    DegradedReason,
    Event,
    Explanation,
    ExplanationState,
    IngestStatus,
    Item,
    Reason,
    ReasonType,
    Recommendation,
    RecommendQuery,
    Result,
    ShopperContext,
    ShopperKey,
    Source,
    TemplateCause,
)

E = TypeVar("E", bound=IntEnum)


class Ingested(msgspec.Struct, frozen=True):
    """An acknowledged event: durable, and visible to every later `recommend`. `status` DUPLICATE: it was there."""

    status: IngestStatus
    consistency_token: str


class Explanations(msgspec.Struct, frozen=True):
    """In the order of the results; `state` PENDING as long as one of them is."""

    explanations: tuple[Explanation, ...]
    state: ExplanationState


Metadata = Sequence[tuple[str, str]]


def call_metadata(query: RecommendQuery) -> Metadata:
    """What the server must know before it reads the message."""
    named = PRIORITY_METADATA.get(query.priority)
    return () if named is None else (named,)


def recommend_request(query: RecommendQuery) -> pb.RecommendRequest:
    """The query on the wire."""
    request = pb.RecommendRequest(
        user_id=query.user_id,
        session_id=query.session_id,
        placement=query.placement,
        priority=pb.Priority.Name(query.priority),
        context_events=[event_message(event) for event in query.context_events],
        anchor_item_ids=query.anchor_item_ids,
        candidate_item_ids=query.candidate_item_ids,
        category=query.category,
        page_size=query.page_size,
        exclude_item_ids=query.exclude_item_ids,
        explain=pb.ExplainMode.Name(query.explain),
        consistency_token=query.consistency_token,
        return_items=query.return_items,
        locale=query.locale,
        device_type=query.device_type,
        user_attributes=query.user_attributes,
        request_id=query.request_id,
    )
    if query.exclude_purchased is not None:
        request.exclude_purchased = query.exclude_purchased
    if query.diversity is not None:
        request.diversity = query.diversity
    return request


def event_message(event: Event) -> pb.Event:
    message = pb.Event(
        event_id=event.event_id,
        event_type=pb.EventType.Name(event.event_type),
        user_id=event.user_id,
        session_id=event.session_id,
        item_id=event.item_id,
        quantity=event.quantity,
        value=event.value,
        currency_code=event.currency_code,
        search_query=event.search_query,
        dwell_ms=event.dwell_ms,
        recommendation_id=event.recommendation_id,
        impression_item_ids=event.impression_item_ids,
        properties=event.properties,
    )
    if event.event_time_ms is not None:
        message.event_time.FromMilliseconds(event.event_time_ms)
    return message


def recommendation(response: pb.RecommendResponse) -> Recommendation:
    return Recommendation(
        results=tuple(_result(result) for result in response.results),
        recommendation_id=response.recommendation_id,
        model_version=response.model_version,
        degraded_reasons=tuple(_known(DegradedReason, reason) for reason in response.degraded_reasons),
        explanation_token=response.explanation_token,
        missing_item_ids=tuple(response.missing_item_ids),
        missing_categories=tuple(response.missing_categories),
    )


def _result(result: pb.RecommendResult) -> Result:
    return Result(
        item_id=result.item_id,
        score=result.score,
        rank=result.rank,
        source=_known(Source, result.source),
        reasons=tuple(
            Reason(_known(ReasonType, reason.type), tuple(reason.because_item_ids), reason.text)
            for reason in result.reasons
        ),
        item=_item(result.item) if result.HasField("item") else None,
        explanation=result.explanation,
        explanation_state=_known(ExplanationState, result.explanation_state),
    )


def _item(item: pb.Item) -> Item:
    return Item(
        item_id=item.item_id,
        title=item.title,
        description=item.description,
        brand=item.brand,
        categories=tuple(item.categories),
        tags=tuple(item.tags),
        price=item.price,
        currency_code=item.currency_code,
        available=item.available,
        image_uri=item.image_uri,
        attributes=dict(item.attributes),
        group_id=item.group_id,
    )


def _known(kind: type[E], value: int) -> E:
    """The enum's member; UNSPECIFIED for one that a newer server knows and this client does not."""
    try:
        return kind(value)
    except ValueError:
        return kind(0)


def batch_recommend_request(queries: Sequence[RecommendQuery]) -> pb.BatchRecommendRequest:
    return pb.BatchRecommendRequest(requests=[recommend_request(query) for query in queries])


def recommendations(response: pb.BatchRecommendResponse) -> list[Recommendation | CallFailed]:
    return [
        recommendation(entry.response) if entry.HasField("response") else failure_of_status(entry.error)
        for entry in response.responses
    ]


def ingest_request(event: Event) -> pb.IngestEventRequest:
    return pb.IngestEventRequest(event=event_message(event))


def ingested(response: pb.IngestEventResponse) -> Ingested:
    return Ingested(_known(IngestStatus, response.status), response.consistency_token)


def batch_ingest_request(events: Sequence[Event]) -> pb.BatchIngestEventsRequest:
    return pb.BatchIngestEventsRequest(events=[event_message(event) for event in events])


def stream_request(messages: Sequence[pb.Event]) -> pb.StreamEventsRequest:
    return pb.StreamEventsRequest(events=messages)


def ingest_results(response: pb.BatchIngestEventsResponse | pb.StreamEventsResponse) -> list[Ingested | CallFailed]:
    """One for each event, in order."""
    return [
        failure_of_status(result.error)
        if result.HasField("error")
        else Ingested(_known(IngestStatus, result.status), result.consistency_token)
        for result in response.results
    ]


def context_request(key: ShopperKey) -> pb.GetContextRequest:
    return pb.GetContextRequest(session_id=key.session_id, user_id=key.user_id)


def shopper_context(response: pb.GetContextResponse) -> ShopperContext:
    return ShopperContext(
        recent_item_ids=tuple(response.recent_item_ids),
        recent_searches=tuple(response.recent_searches),
        cart_item_ids=tuple(response.cart_item_ids),
        purchased_item_ids=tuple(response.purchased_item_ids),
        event_count=response.event_count,
        category_weights=tuple((entry.category, entry.weight) for entry in response.category_weights),
    )


def explanations_request(token: str) -> pb.GetExplanationsRequest:
    return pb.GetExplanationsRequest(explanation_token=token)


def watch_request(token: str) -> pb.WatchExplanationsRequest:
    return pb.WatchExplanationsRequest(explanation_token=token)


def watch_recommendations_request(query: RecommendQuery, resume_token: str) -> pb.WatchRecommendationsRequest:
    return pb.WatchRecommendationsRequest(request=recommend_request(query), resume_token=resume_token)


def explanations(response: pb.GetExplanationsResponse) -> Explanations:
    return Explanations(
        tuple(explanation(entry) for entry in response.explanations), _known(ExplanationState, response.state)
    )


def explanation(message: pb.Explanation) -> Explanation:
    return Explanation(
        message.item_id,
        message.text,
        _known(ExplanationState, message.state),
        _known(TemplateCause, message.cause),
    )
