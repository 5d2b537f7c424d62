"""Wire messages <-> recserv's types. Wire messages in are already validated; see `validate`.

Building an answer costs more than scoring it. The fastest way in upb is to add messages in place and set their fields
one by one (17 us for ten results with a reason each; 24 us from keyword dictionaries, 42 us from constructors).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

from recserv import v1 as pb
from recserv.types import (
    DEFAULT_TENANT,
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

_EVENT_TYPES = {int(kind): kind for kind in EventType}


def enum(value: IntEnum) -> Any:
    """Our enums have the same numbers as the wire's; only the type checker sees a difference."""
    return value


def event_from_wire(message: pb.Event) -> Event:
    time = message.event_time if message.HasField("event_time") else None
    # Nearly always empty, and copying an empty list costs as much as reading all the other fields.
    impressions, properties = message.impression_item_ids, message.properties
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
        impression_item_ids=tuple(impressions) if impressions else (),
        properties=dict(properties) if properties else {},
    )


def query_from_wire(message: pb.RecommendRequest, tenant: str = DEFAULT_TENANT) -> RecommendQuery:
    # A request sets a few of its 21 fields; only those are read.
    fields: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        name = descriptor.name
        convert = _CONVERT.get(name)
        fields[name] = value if convert is None else convert(value)
    return RecommendQuery(tenant=tenant, **fields)


# ListFields omits fields without presence that hold their zero value, so 0 never gets here.
_CONVERT: dict[str, Callable[[Any], Any]] = {
    "priority": Priority,
    "explain": ExplainMode,
    "context_events": lambda events: tuple([event_from_wire(event) for event in events]),
    "anchor_item_ids": tuple,
    "candidate_item_ids": tuple,
    "exclude_item_ids": tuple,
    "user_attributes": dict,
}


def _item(item: Item) -> pb.Item:
    return pb.Item(
        item_id=item.item_id,
        title=item.title,
        description=item.description,
        brand=item.brand,
        categories=item.categories,
        tags=item.tags,
        price=item.price,
        currency_code=item.currency_code,
        available=item.available,
        image_uri=item.image_uri,
        attributes=item.attributes,
        group_id=item.group_id,
    )


class SharedResults:
    """Result messages that many answers share, built once. Copying a hundred costs a tenth of building them."""

    def __init__(self, kept_max: int = 64):
        self._kept_max = kept_max
        self._kept: OrderedDict[int, tuple[tuple[Result, ...], pb.RecommendResponse]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def response(self, results: tuple[Result, ...]) -> pb.RecommendResponse:
        """A new message that holds these results only."""
        # The cache keeps the tuple alive, so no other object can get its id.
        kept = self._kept.get(id(results))
        if kept is None:
            kept = self._kept[id(results)] = results, _with_results(results)
            if len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
        message = pb.RecommendResponse()
        message.CopyFrom(kept[1])
        return message


def recommendation_to_wire(answer: Recommendation, shared: SharedResults) -> pb.RecommendResponse:
    message = shared.response(answer.results) if answer.shared else _with_results(answer.results)
    message.recommendation_id, message.model_version = answer.recommendation_id, answer.model_version
    if answer.degraded_reasons:
        message.degraded = True
        message.degraded_reasons.extend([enum(reason) for reason in answer.degraded_reasons])
    if answer.explanation_token:
        message.explanation_token = answer.explanation_token
    if answer.missing_item_ids:
        message.missing_item_ids.extend(answer.missing_item_ids)
    if answer.missing_categories:
        message.missing_categories.extend(answer.missing_categories)
    return message


def _with_results(results: tuple[Result, ...]) -> pb.RecommendResponse:
    message = pb.RecommendResponse()
    for result in results:
        _fill(message.results.add(), result)
    return message


def _fill(message: pb.RecommendResult, result: Result) -> None:
    message.item_id = result.item_id
    message.score = result.score
    message.rank = result.rank
    message.source = enum(result.source)
    for reason in result.reasons:
        added = message.reasons.add()
        added.type = enum(reason.type)
        added.text = reason.text
        added.because_item_ids.extend(reason.because_item_ids)
    if result.item is not None:
        message.item.MergeFrom(_item(result.item))
    if result.explanation:
        message.explanation = result.explanation
    if result.explanation_state:
        message.explanation_state = enum(result.explanation_state)


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
    return pb.Explanation(
        item_id=explanation.item_id,
        text=explanation.text,
        state=enum(explanation.state),
        cause=enum(explanation.cause),
    )


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
