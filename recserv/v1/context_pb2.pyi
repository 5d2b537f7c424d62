from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

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
