"""Every message survives protobuf's JSON mapping both ways: gateways, `buf curl` and logs speak it."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recserv import v1 as pb
from tests.stubs import CONTRACT

FILES = [sys.modules[f"recserv.v1.{path.stem}_pb2"].DESCRIPTOR for path in CONTRACT]
MESSAGES: dict[str, Descriptor] = {name: one for file in FILES for name, one in file.message_types_by_name.items()}
ENUMS: dict[str, EnumDescriptor] = {name: one for file in FILES for name, one in file.enum_types_by_name.items()}
UNKNOWN = 77
"""A value that no enum has."""

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DETAILS = st.sampled_from(
    [
        error_details_pb2.ErrorInfo(reason="NOT_FOUND", domain="recserv", metadata={"a": "b"}),
        error_details_pb2.BadRequest(field_violations=[{"field": "page_size", "reason": "OUT_OF_RANGE"}]),
        error_details_pb2.RetryInfo(retry_delay={"nanos": 50_000_000}),
    ]
)
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: TEXTS,
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    # Not NaN: it is not equal to itself.
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
}


def _status(message: str, details: list[Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=3, message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return status


WELL_KNOWN: dict[str, st.SearchStrategy[Any]] = {
    # What the JSON mapping can write: the years 1 to 9999.
    "google.protobuf.Timestamp": st.fixed_dictionaries(
        {"seconds": st.integers(-62_135_596_800, 253_402_300_799), "nanos": st.integers(0, 999_999_999)}
    ),
    "google.rpc.Status": st.builds(_status, TEXTS, st.lists(DETAILS, max_size=2)),
}


def _value(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return st.dictionaries(TEXTS, TEXTS, max_size=2)
    if field.message_type is not None:
        name = field.message_type.full_name
        one = WELL_KNOWN[name] if name in WELL_KNOWN else _fields(field.message_type)
    elif field.enum_type is not None:
        one = st.sampled_from([*[value.number for value in field.enum_type.values], UNKNOWN])
    else:
        one = SCALARS[field.type]
    return st.lists(one, max_size=2) if field.is_repeated else one


def _fields(descriptor: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    """Keyword arguments of a message, any of them left out; of a oneof the last one given counts."""
    return st.fixed_dictionaries({}, optional={field.name: _value(field) for field in descriptor.fields})


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_the_same_after_json(name: str) -> None:
    kind = message_factory.GetMessageClass(MESSAGES[name])

    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(fields=_fields(MESSAGES[name]))
    def run(fields: dict[str, Any]) -> None:
        message = kind(**fields)
        for style in ({}, {"use_integers_for_enums": True}, {"preserving_proto_field_name": True}):
            text = json_format.MessageToJson(message, **style)
            assert json_format.Parse(text, kind()) == message, style

    run()


@pytest.mark.parametrize("name", MESSAGES)
def test_names_in_json_are_lower_camel_case_and_each_is_one_fields(name: str) -> None:
    fields = MESSAGES[name].fields
    for field in fields:
        first, *rest = field.name.split("_")
        assert field.json_name == first + "".join(word.capitalize() for word in rest)
    # Whoever writes both must not mean two fields with one word, nor may languages that ignore case.
    spellings = [{field.name.lower(), field.json_name.lower()} for field in fields]
    assert sum(map(len, spellings)) == len(set().union(*spellings))


@pytest.mark.parametrize("name", ENUMS)
def test_the_value_of_an_enum_is_its_name_in_json_and_its_number_is_taken_too(name: str) -> None:
    numbers = [value.number for value in ENUMS[name].values]
    # One name a number: no aliases, so the name that comes back is the one that went.
    assert len(numbers) == len(set(numbers))
    holders = [(kind, field) for kind in MESSAGES.values() for field in kind.fields if field.enum_type is ENUMS[name]]
    assert holders, "no message has it"
    for kind, field in holders:
        for value in ENUMS[name].values:
            for written in (value.name, value.number):
                told = json.dumps({field.json_name: [written] if field.is_repeated else written})
                message = json_format.Parse(told, message_factory.GetMessageClass(kind)())
                held = getattr(message, field.name)
                assert (list(held) if field.is_repeated else [held]) == [value.number]


def test_a_number_that_is_not_known_stays_in_json_and_a_name_that_is_not_known_is_refused_or_left_out() -> None:
    newer = pb.RecommendResponse(degraded_reasons=[UNKNOWN], results=[{"source": UNKNOWN}])
    assert json_format.MessageToDict(newer) == {"degradedReasons": [UNKNOWN], "results": [{"source": UNKNOWN}]}
    told = (
        '{"degradedReasons": ["DEGRADED_REASON_NEWER", "DEGRADED_REASON_DEADLINE"], "results": [{"source": "NEWER"}]}'
    )
    with pytest.raises(json_format.ParseError, match="DEGRADED_REASON_NEWER"):
        json_format.Parse(told, pb.RecommendResponse())
    read = json_format.Parse(told, pb.RecommendResponse(), ignore_unknown_fields=True)
    assert read.results[0].source == pb.SOURCE_UNSPECIFIED
    assert list(read.degraded_reasons) == [pb.DEGRADED_REASON_DEADLINE]


def test_what_is_set_to_its_zero_and_has_presence_is_still_set_after_json() -> None:
    request = pb.RecommendRequest(exclude_purchased=False, diversity=0.0)
    assert json_format.MessageToDict(request) == {"excludePurchased": False, "diversity": 0.0}
    read = json_format.ParseDict({"excludePurchased": False}, pb.RecommendRequest())
    assert (read.HasField("exclude_purchased"), read.HasField("diversity")) == (True, False)
    assert json_format.MessageToDict(pb.Item(available=False)) == {"available": False}
