from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

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

class GetExplanationsRequest(_message.Message):
    __slots__ = ("explanation_token",)
    EXPLANATION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    explanation_token: str
    def __init__(self, explanation_token: _Optional[str] = ...) -> None: ...

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
