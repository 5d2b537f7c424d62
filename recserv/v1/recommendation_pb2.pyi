import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_TYPE_UNSPECIFIED: _ClassVar[EventType]
    EVENT_TYPE_VIEW: _ClassVar[EventType]
    EVENT_TYPE_CLICK: _ClassVar[EventType]
    EVENT_TYPE_ADD_TO_CART: _ClassVar[EventType]
    EVENT_TYPE_REMOVE_FROM_CART: _ClassVar[EventType]
    EVENT_TYPE_PURCHASE: _ClassVar[EventType]
    EVENT_TYPE_SEARCH: _ClassVar[EventType]
    EVENT_TYPE_RATE: _ClassVar[EventType]
    EVENT_TYPE_IMPRESSION: _ClassVar[EventType]
    EVENT_TYPE_DISLIKE: _ClassVar[EventType]

class ExplainMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLAIN_MODE_UNSPECIFIED: _ClassVar[ExplainMode]
    EXPLAIN_MODE_NONE: _ClassVar[ExplainMode]
    EXPLAIN_MODE_REASONS: _ClassVar[ExplainMode]
    EXPLAIN_MODE_LLM_ASYNC: _ClassVar[ExplainMode]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_LOW: _ClassVar[Priority]
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_HIGH: _ClassVar[Priority]

class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_UNSPECIFIED: _ClassVar[Source]
    SOURCE_CONTEXT_VECTOR: _ClassVar[Source]
    SOURCE_COVISITATION: _ClassVar[Source]
    SOURCE_SESSION_KNN: _ClassVar[Source]
    SOURCE_POPULAR: _ClassVar[Source]
    SOURCE_POPULAR_IN_CATEGORY: _ClassVar[Source]
    SOURCE_TRENDING: _ClassVar[Source]
    SOURCE_REQUESTED: _ClassVar[Source]

class ReasonType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_TYPE_UNSPECIFIED: _ClassVar[ReasonType]
    REASON_TYPE_OFTEN_BOUGHT_WITH: _ClassVar[ReasonType]
    REASON_TYPE_OFTEN_VIEWED_WITH: _ClassVar[ReasonType]
    REASON_TYPE_SIMILAR_TO: _ClassVar[ReasonType]
    REASON_TYPE_SIMILAR_SESSIONS: _ClassVar[ReasonType]
    REASON_TYPE_POPULAR: _ClassVar[ReasonType]
    REASON_TYPE_POPULAR_IN_CATEGORY: _ClassVar[ReasonType]
    REASON_TYPE_TRENDING: _ClassVar[ReasonType]
    REASON_TYPE_ALREADY_IN_SESSION: _ClassVar[ReasonType]
    REASON_TYPE_MATCHES_SEARCH: _ClassVar[ReasonType]

class DegradedReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEGRADED_REASON_UNSPECIFIED: _ClassVar[DegradedReason]
    DEGRADED_REASON_STATE_UNAVAILABLE: _ClassVar[DegradedReason]
    DEGRADED_REASON_STALE_STATE: _ClassVar[DegradedReason]
    DEGRADED_REASON_INDEX_UNAVAILABLE: _ClassVar[DegradedReason]
    DEGRADED_REASON_INDEX_TIMEOUT: _ClassVar[DegradedReason]
    DEGRADED_REASON_RANKER_UNAVAILABLE: _ClassVar[DegradedReason]
    DEGRADED_REASON_DEADLINE: _ClassVar[DegradedReason]
    DEGRADED_REASON_OVERLOAD: _ClassVar[DegradedReason]
    DEGRADED_REASON_SOURCE_UNAVAILABLE: _ClassVar[DegradedReason]
    DEGRADED_REASON_EXPLANATION_UNAVAILABLE: _ClassVar[DegradedReason]
    DEGRADED_REASON_STAGE_FAILED: _ClassVar[DegradedReason]

class ExplanationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLANATION_STATE_UNSPECIFIED: _ClassVar[ExplanationState]
    EXPLANATION_STATE_PENDING: _ClassVar[ExplanationState]
    EXPLANATION_STATE_READY: _ClassVar[ExplanationState]
    EXPLANATION_STATE_TEMPLATE: _ClassVar[ExplanationState]

class TemplateCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TEMPLATE_CAUSE_UNSPECIFIED: _ClassVar[TemplateCause]
    TEMPLATE_CAUSE_NOT_CONFIGURED: _ClassVar[TemplateCause]
    TEMPLATE_CAUSE_QUEUE_FULL: _ClassVar[TemplateCause]
    TEMPLATE_CAUSE_BUDGET_SPENT: _ClassVar[TemplateCause]
    TEMPLATE_CAUSE_PROVIDER_FAILED: _ClassVar[TemplateCause]
    TEMPLATE_CAUSE_DISCARDED: _ClassVar[TemplateCause]
    TEMPLATE_CAUSE_EXPIRED: _ClassVar[TemplateCause]

class IngestStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INGEST_STATUS_UNSPECIFIED: _ClassVar[IngestStatus]
    INGEST_STATUS_ACCEPTED: _ClassVar[IngestStatus]
    INGEST_STATUS_DUPLICATE: _ClassVar[IngestStatus]
    INGEST_STATUS_REJECTED: _ClassVar[IngestStatus]
EVENT_TYPE_UNSPECIFIED: EventType
EVENT_TYPE_VIEW: EventType
EVENT_TYPE_CLICK: EventType
EVENT_TYPE_ADD_TO_CART: EventType
EVENT_TYPE_REMOVE_FROM_CART: EventType
EVENT_TYPE_PURCHASE: EventType
EVENT_TYPE_SEARCH: EventType
EVENT_TYPE_RATE: EventType
EVENT_TYPE_IMPRESSION: EventType
EVENT_TYPE_DISLIKE: EventType
EXPLAIN_MODE_UNSPECIFIED: ExplainMode
EXPLAIN_MODE_NONE: ExplainMode
EXPLAIN_MODE_REASONS: ExplainMode
EXPLAIN_MODE_LLM_ASYNC: ExplainMode
PRIORITY_UNSPECIFIED: Priority
PRIORITY_LOW: Priority
PRIORITY_NORMAL: Priority
PRIORITY_HIGH: Priority
SOURCE_UNSPECIFIED: Source
SOURCE_CONTEXT_VECTOR: Source
SOURCE_COVISITATION: Source
SOURCE_SESSION_KNN: Source
SOURCE_POPULAR: Source
SOURCE_POPULAR_IN_CATEGORY: Source
SOURCE_TRENDING: Source
SOURCE_REQUESTED: Source
REASON_TYPE_UNSPECIFIED: ReasonType
REASON_TYPE_OFTEN_BOUGHT_WITH: ReasonType
REASON_TYPE_OFTEN_VIEWED_WITH: ReasonType
REASON_TYPE_SIMILAR_TO: ReasonType
REASON_TYPE_SIMILAR_SESSIONS: ReasonType
REASON_TYPE_POPULAR: ReasonType
REASON_TYPE_POPULAR_IN_CATEGORY: ReasonType
REASON_TYPE_TRENDING: ReasonType
REASON_TYPE_ALREADY_IN_SESSION: ReasonType
REASON_TYPE_MATCHES_SEARCH: ReasonType
DEGRADED_REASON_UNSPECIFIED: DegradedReason
DEGRADED_REASON_STATE_UNAVAILABLE: DegradedReason
DEGRADED_REASON_STALE_STATE: DegradedReason
DEGRADED_REASON_INDEX_UNAVAILABLE: DegradedReason
DEGRADED_REASON_INDEX_TIMEOUT: DegradedReason
DEGRADED_REASON_RANKER_UNAVAILABLE: DegradedReason
DEGRADED_REASON_DEADLINE: DegradedReason
DEGRADED_REASON_OVERLOAD: DegradedReason
DEGRADED_REASON_SOURCE_UNAVAILABLE: DegradedReason
DEGRADED_REASON_EXPLANATION_UNAVAILABLE: DegradedReason
DEGRADED_REASON_STAGE_FAILED: DegradedReason
EXPLANATION_STATE_UNSPECIFIED: ExplanationState
EXPLANATION_STATE_PENDING: ExplanationState
EXPLANATION_STATE_READY: ExplanationState
EXPLANATION_STATE_TEMPLATE: ExplanationState
TEMPLATE_CAUSE_UNSPECIFIED: TemplateCause
TEMPLATE_CAUSE_NOT_CONFIGURED: TemplateCause
TEMPLATE_CAUSE_QUEUE_FULL: TemplateCause
TEMPLATE_CAUSE_BUDGET_SPENT: TemplateCause
TEMPLATE_CAUSE_PROVIDER_FAILED: TemplateCause
TEMPLATE_CAUSE_DISCARDED: TemplateCause
TEMPLATE_CAUSE_EXPIRED: TemplateCause
INGEST_STATUS_UNSPECIFIED: IngestStatus
INGEST_STATUS_ACCEPTED: IngestStatus
INGEST_STATUS_DUPLICATE: IngestStatus
INGEST_STATUS_REJECTED: IngestStatus

class Event(_message.Message):
    __slots__ = ("event_id", "event_type", "user_id", "session_id", "item_id", "quantity", "value", "currency_code", "search_query", "event_time", "dwell_ms", "recommendation_id", "impression_item_ids", "properties")
    class PropertiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_CODE_FIELD_NUMBER: _ClassVar[int]
    SEARCH_QUERY_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    DWELL_MS_FIELD_NUMBER: _ClassVar[int]
    RECOMMENDATION_ID_FIELD_NUMBER: _ClassVar[int]
    IMPRESSION_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_type: EventType
    user_id: str
    session_id: str
    item_id: str
    quantity: int
    value: float
    currency_code: str
    search_query: str
    event_time: _timestamp_pb2.Timestamp
    dwell_ms: int
    recommendation_id: str
    impression_item_ids: _containers.RepeatedScalarFieldContainer[str]
    properties: _containers.ScalarMap[str, str]
    def __init__(self, event_id: _Optional[str] = ..., event_type: _Optional[_Union[EventType, str]] = ..., user_id: _Optional[str] = ..., session_id: _Optional[str] = ..., item_id: _Optional[str] = ..., quantity: _Optional[int] = ..., value: _Optional[float] = ..., currency_code: _Optional[str] = ..., search_query: _Optional[str] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., dwell_ms: _Optional[int] = ..., recommendation_id: _Optional[str] = ..., impression_item_ids: _Optional[_Iterable[str]] = ..., properties: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("item_id", "title", "description", "brand", "categories", "tags", "price", "currency_code", "available", "image_uri", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    BRAND_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_CODE_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_URI_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    title: str
    description: str
    brand: str
    categories: _containers.RepeatedScalarFieldContainer[str]
    tags: _containers.RepeatedScalarFieldContainer[str]
    price: float
    currency_code: str
    available: bool
    image_uri: str
    attributes: _containers.ScalarMap[str, str]
    def __init__(self, item_id: _Optional[str] = ..., title: _Optional[str] = ..., description: _Optional[str] = ..., brand: _Optional[str] = ..., categories: _Optional[_Iterable[str]] = ..., tags: _Optional[_Iterable[str]] = ..., price: _Optional[float] = ..., currency_code: _Optional[str] = ..., available: _Optional[bool] = ..., image_uri: _Optional[str] = ..., attributes: _Optional[_Mapping[str, str]] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("user_id", "session_id", "placement", "priority", "context_events", "anchor_item_ids", "candidate_item_ids", "category", "page_size", "page_token", "exclude_item_ids", "exclude_purchased", "filter", "diversity", "explain", "consistency_token", "return_items", "locale", "device_type", "user_attributes", "request_id")
    class UserAttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_EVENTS_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_PURCHASED_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RETURN_ITEMS_FIELD_NUMBER: _ClassVar[int]
    LOCALE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TYPE_FIELD_NUMBER: _ClassVar[int]
    USER_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    session_id: str
    placement: str
    priority: Priority
    context_events: _containers.RepeatedCompositeFieldContainer[Event]
    anchor_item_ids: _containers.RepeatedScalarFieldContainer[str]
    candidate_item_ids: _containers.RepeatedScalarFieldContainer[str]
    category: str
    page_size: int
    page_token: str
    exclude_item_ids: _containers.RepeatedScalarFieldContainer[str]
    exclude_purchased: bool
    filter: str
    diversity: float
    explain: ExplainMode
    consistency_token: str
    return_items: bool
    locale: str
    device_type: str
    user_attributes: _containers.ScalarMap[str, str]
    request_id: str
    def __init__(self, user_id: _Optional[str] = ..., session_id: _Optional[str] = ..., placement: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ..., context_events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., anchor_item_ids: _Optional[_Iterable[str]] = ..., candidate_item_ids: _Optional[_Iterable[str]] = ..., category: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., exclude_item_ids: _Optional[_Iterable[str]] = ..., exclude_purchased: _Optional[bool] = ..., filter: _Optional[str] = ..., diversity: _Optional[float] = ..., explain: _Optional[_Union[ExplainMode, str]] = ..., consistency_token: _Optional[str] = ..., return_items: _Optional[bool] = ..., locale: _Optional[str] = ..., device_type: _Optional[str] = ..., user_attributes: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("type", "because_item_ids", "text")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    type: ReasonType
    because_item_ids: _containers.RepeatedScalarFieldContainer[str]
    text: str
    def __init__(self, type: _Optional[_Union[ReasonType, str]] = ..., because_item_ids: _Optional[_Iterable[str]] = ..., text: _Optional[str] = ...) -> None: ...

class RecommendResult(_message.Message):
    __slots__ = ("item_id", "score", "rank", "source", "reasons", "item", "explanation", "explanation_state")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_STATE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    score: float
    rank: int
    source: Source
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    item: Item
    explanation: str
    explanation_state: ExplanationState
    def __init__(self, item_id: _Optional[str] = ..., score: _Optional[float] = ..., rank: _Optional[int] = ..., source: _Optional[_Union[Source, str]] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ..., item: _Optional[_Union[Item, _Mapping]] = ..., explanation: _Optional[str] = ..., explanation_state: _Optional[_Union[ExplanationState, str]] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("results", "recommendation_id", "model_version", "degraded", "degraded_reasons", "explanation_token", "next_page_token", "missing_item_ids", "missing_categories")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    RECOMMENDATION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_REASONS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MISSING_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    MISSING_CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[RecommendResult]
    recommendation_id: str
    model_version: str
    degraded: bool
    degraded_reasons: _containers.RepeatedScalarFieldContainer[DegradedReason]
    explanation_token: str
    next_page_token: str
    missing_item_ids: _containers.RepeatedScalarFieldContainer[str]
    missing_categories: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, results: _Optional[_Iterable[_Union[RecommendResult, _Mapping]]] = ..., recommendation_id: _Optional[str] = ..., model_version: _Optional[str] = ..., degraded: _Optional[bool] = ..., degraded_reasons: _Optional[_Iterable[_Union[DegradedReason, str]]] = ..., explanation_token: _Optional[str] = ..., next_page_token: _Optional[str] = ..., missing_item_ids: _Optional[_Iterable[str]] = ..., missing_categories: _Optional[_Iterable[str]] = ...) -> None: ...

class BatchRecommendRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[RecommendRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[RecommendRequest, _Mapping]]] = ...) -> None: ...

class BatchRecommendEntry(_message.Message):
    __slots__ = ("response", "error")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    response: RecommendResponse
    error: _status_pb2.Status
    def __init__(self, response: _Optional[_Union[RecommendResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class BatchSummary(_message.Message):
    __slots__ = ("total", "succeeded", "failed", "degraded")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    total: int
    succeeded: int
    failed: int
    degraded: int
    def __init__(self, total: _Optional[int] = ..., succeeded: _Optional[int] = ..., failed: _Optional[int] = ..., degraded: _Optional[int] = ...) -> None: ...

class BatchRecommendResponse(_message.Message):
    __slots__ = ("responses", "summary")
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[BatchRecommendEntry]
    summary: BatchSummary
    def __init__(self, responses: _Optional[_Iterable[_Union[BatchRecommendEntry, _Mapping]]] = ..., summary: _Optional[_Union[BatchSummary, _Mapping]] = ...) -> None: ...

class IngestEventRequest(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: Event
    def __init__(self, event: _Optional[_Union[Event, _Mapping]] = ...) -> None: ...

class IngestEventResponse(_message.Message):
    __slots__ = ("status", "consistency_token")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    status: IngestStatus
    consistency_token: str
    def __init__(self, status: _Optional[_Union[IngestStatus, str]] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class IngestResult(_message.Message):
    __slots__ = ("event_id", "status", "error", "consistency_token")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    status: IngestStatus
    error: _status_pb2.Status
    consistency_token: str
    def __init__(self, event_id: _Optional[str] = ..., status: _Optional[_Union[IngestStatus, str]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class BatchIngestEventsRequest(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class BatchIngestEventsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[IngestResult]
    def __init__(self, results: _Optional[_Iterable[_Union[IngestResult, _Mapping]]] = ...) -> None: ...

class StreamEventsRequest(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class StreamEventsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[IngestResult]
    def __init__(self, results: _Optional[_Iterable[_Union[IngestResult, _Mapping]]] = ...) -> None: ...

class GetContextRequest(_message.Message):
    __slots__ = ("session_id", "user_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    user_id: str
    def __init__(self, session_id: _Optional[str] = ..., user_id: _Optional[str] = ...) -> None: ...

class CategoryWeight(_message.Message):
    __slots__ = ("category", "weight")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    category: str
    weight: float
    def __init__(self, category: _Optional[str] = ..., weight: _Optional[float] = ...) -> None: ...

class GetContextResponse(_message.Message):
    __slots__ = ("recent_item_ids", "recent_searches", "cart_item_ids", "purchased_item_ids", "event_count", "category_weights")
    RECENT_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    RECENT_SEARCHES_FIELD_NUMBER: _ClassVar[int]
    CART_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    PURCHASED_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    recent_item_ids: _containers.RepeatedScalarFieldContainer[str]
    recent_searches: _containers.RepeatedScalarFieldContainer[str]
    cart_item_ids: _containers.RepeatedScalarFieldContainer[str]
    purchased_item_ids: _containers.RepeatedScalarFieldContainer[str]
    event_count: int
    category_weights: _containers.RepeatedCompositeFieldContainer[CategoryWeight]
    def __init__(self, recent_item_ids: _Optional[_Iterable[str]] = ..., recent_searches: _Optional[_Iterable[str]] = ..., cart_item_ids: _Optional[_Iterable[str]] = ..., purchased_item_ids: _Optional[_Iterable[str]] = ..., event_count: _Optional[int] = ..., category_weights: _Optional[_Iterable[_Union[CategoryWeight, _Mapping]]] = ...) -> None: ...

class GetExplanationsRequest(_message.Message):
    __slots__ = ("explanation_token",)
    EXPLANATION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    explanation_token: str
    def __init__(self, explanation_token: _Optional[str] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("item_id", "text", "state", "cause")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    text: str
    state: ExplanationState
    cause: TemplateCause
    def __init__(self, item_id: _Optional[str] = ..., text: _Optional[str] = ..., state: _Optional[_Union[ExplanationState, str]] = ..., cause: _Optional[_Union[TemplateCause, str]] = ...) -> None: ...

class GetExplanationsResponse(_message.Message):
    __slots__ = ("explanations", "state")
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    explanations: _containers.RepeatedCompositeFieldContainer[Explanation]
    state: ExplanationState
    def __init__(self, explanations: _Optional[_Iterable[_Union[Explanation, _Mapping]]] = ..., state: _Optional[_Union[ExplanationState, str]] = ...) -> None: ...

class WatchExplanationsRequest(_message.Message):
    __slots__ = ("explanation_token",)
    EXPLANATION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    explanation_token: str
    def __init__(self, explanation_token: _Optional[str] = ...) -> None: ...

class WatchExplanationsResponse(_message.Message):
    __slots__ = ("explanation",)
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    explanation: Explanation
    def __init__(self, explanation: _Optional[_Union[Explanation, _Mapping]] = ...) -> None: ...
