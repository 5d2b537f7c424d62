"""A small synchronous client: `recserv.types` in, `recserv.types` out, one exception for whatever goes wrong.

    with RecommendationClient("127.0.0.1:50051") as client:
        client.ingest(Event(event_id="1", event_type=EventType.VIEW, session_id="s", item_id="sku-1"))
        for result in client.recommend(RecommendQuery(session_id="s")).results: ...

The commands and tests use it. A service of your own is better served by stubs generated from protos/ in its language.
"""

from __future__ import annotations

from enum import IntEnum
from types import TracebackType
from typing import Any, TypeVar, cast

import grpc
import msgspec
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from recserv.errors import RecservError, Violation
from recserv.types import (
    DegradedReason,
    Event,
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
)
from recserv.v1 import recommendation_pb2 as pb
from recserv.v1 import recommendation_pb2_grpc as pb_grpc

TIMEOUT_S = 2.0
MESSAGE_BYTES_MAX = 4 * 1024 * 1024

E = TypeVar("E", bound=IntEnum)


class CallFailed(RecservError):
    """The server answered with an error, or did not answer. `code` is the gRPC status's name, such as NOT_FOUND;
    `retry_after_s` is None where the server did not say that a retry is worth it.
    """

    reason = "CALL_FAILED"

    def __init__(
        self, code: str, message: str, violations: tuple[Violation, ...] = (), retry_after_s: float | None = None
    ):
        self.code, self.message, self.violations, self.retry_after_s = code, message, violations, retry_after_s
        super().__init__(f"{code}: {message}")


class Ingested(msgspec.Struct, frozen=True):
    status: IngestStatus
    consistency_token: str


class RecommendationClient:
    """One channel to one server, without TLS. Safe to share between threads. Every call has a deadline and raises
    CallFailed.
    """

    def __init__(self, target: str, timeout_s: float = TIMEOUT_S):
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(target, options=[("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)])
        self._stub = pb_grpc.RecommendationServiceStub(self._channel)

    def __enter__(self) -> RecommendationClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def recommend(self, query: RecommendQuery, timeout_s: float | None = None) -> Recommendation:
        """The ranked answer. `query.tenant` is not sent: the tenant follows from who calls."""
        return _recommendation(self._call(self._stub.Recommend, recommend_request(query), timeout_s))

    def ingest(self, event: Event, timeout_s: float | None = None) -> Ingested:
        """Returns once the event is durable and visible to the next `recommend`."""
        response = self._call(self._stub.IngestEvent, pb.IngestEventRequest(event=_event(event)), timeout_s)
        return Ingested(IngestStatus(response.status), response.consistency_token)

    def context(self, key: ShopperKey, timeout_s: float | None = None) -> ShopperContext:
        request = pb.GetContextRequest(session_id=key.session_id, user_id=key.user_id)
        response = self._call(self._stub.GetContext, request, timeout_s)
        return ShopperContext(
            recent_item_ids=tuple(response.recent_item_ids),
            recent_searches=tuple(response.recent_searches),
            cart_item_ids=tuple(response.cart_item_ids),
            purchased_item_ids=tuple(response.purchased_item_ids),
            event_count=response.event_count,
            category_weights=tuple((entry.category, entry.weight) for entry in response.category_weights),
        )

    def _call(self, rpc: Any, request: Any, timeout_s: float | None) -> Any:
        try:
            return rpc(request, timeout=self._timeout_s if timeout_s is None else timeout_s)
        except grpc.RpcError as error:
            # What a stub raises is the call itself, too.
            raise _call_failed(cast(grpc.Call, error)) from error


def recommend_request(query: RecommendQuery) -> pb.RecommendRequest:
    """The query on the wire."""
    request = pb.RecommendRequest(
        user_id=query.user_id,
        session_id=query.session_id,
        placement=query.placement,
        priority=pb.Priority.Name(query.priority),
        context_events=[_event(event) for event in query.context_events],
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


def _event(event: Event) -> pb.Event:
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


def _recommendation(response: pb.RecommendResponse) -> Recommendation:
    return Recommendation(
        results=tuple(_result(result) for result in response.results),
        recommendation_id=response.recommendation_id,
        model_version=response.model_version,
        degraded_reasons=tuple(_known(DegradedReason, reason) for reason in response.degraded_reasons),
        explanation_token=response.explanation_token,
        missing_item_ids=tuple(response.missing_item_ids),
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
    )


def _known(kind: type[E], value: int) -> E:
    """The enum's member; UNSPECIFIED for one that a newer server knows and this client does not."""
    try:
        return kind(value)
    except ValueError:
        return kind(0)


def _call_failed(error: grpc.Call) -> CallFailed:
    code, message = error.code().name, error.details() or ""
    violations: list[Violation] = []
    retry_after_s = None
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        # The details contradict the status: the status alone still says what happened.
        status = None
    for detail in status.details if status is not None else ():
        bad_request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(bad_request):
            violations += [Violation(entry.field, entry.description) for entry in bad_request.field_violations]
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return CallFailed(code, message, tuple(violations), retry_after_s)
