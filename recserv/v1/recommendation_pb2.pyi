from google.rpc import status_pb2 as _status_pb2
from recserv.v1 import events_pb2 as _events_pb2
from recserv.v1 import explanations_pb2 as _explanations_pb2
from recserv.v1 import items_pb2 as _items_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

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
    context_events: _containers.RepeatedCompositeFieldContainer[_events_pb2.Event]
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
    def __init__(self, user_id: _Optional[str] = ..., session_id: _Optional[str] = ..., placement: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ..., context_events: _Optional[_Iterable[_Union[_events_pb2.Event, _Mapping]]] = ..., anchor_item_ids: _Optional[_Iterable[str]] = ..., candidate_item_ids: _Optional[_Iterable[str]] = ..., category: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., exclude_item_ids: _Optional[_Iterable[str]] = ..., exclude_purchased: _Optional[bool] = ..., filter: _Optional[str] = ..., diversity: _Optional[float] = ..., explain: _Optional[_Union[ExplainMode, str]] = ..., consistency_token: _Optional[str] = ..., return_items: _Optional[bool] = ..., locale: _Optional[str] = ..., device_type: _Optional[str] = ..., user_attributes: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

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
    item: _items_pb2.Item
    explanation: str
    explanation_state: _explanations_pb2.ExplanationState
    def __init__(self, item_id: _Optional[str] = ..., score: _Optional[float] = ..., rank: _Optional[int] = ..., source: _Optional[_Union[Source, str]] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ..., item: _Optional[_Union[_items_pb2.Item, _Mapping]] = ..., explanation: _Optional[str] = ..., explanation_state: _Optional[_Union[_explanations_pb2.ExplanationState, str]] = ...) -> None: ...

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

class WatchRecommendationsRequest(_message.Message):
    __slots__ = ("request", "resume_token")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    request: RecommendRequest
    resume_token: str
    def __init__(self, request: _Optional[_Union[RecommendRequest, _Mapping]] = ..., resume_token: _Optional[str] = ...) -> None: ...

class WatchRecommendationsResponse(_message.Message):
    __slots__ = ("response", "resume_token")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    response: RecommendResponse
    resume_token: str
    def __init__(self, response: _Optional[_Union[RecommendResponse, _Mapping]] = ..., resume_token: _Optional[str] = ...) -> None: ...
