"""The short check of an event never lets through what the long one refuses, and lets through what shops send."""

from __future__ import annotations

import math

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from recserv import v1 as pb
from recserv.errors import InvalidInput
from recserv.server.validate import check_event, is_plain_event

NOW_MS = 1_800_000_000_000
IDS = st.sampled_from(["", "a", "é" * 64, "x" * 65, "x" * 257, "é" * 129, "a\0b", "a\x85b", "\u2028"])
NUMBERS = st.sampled_from([-(2**31), -1, 0, 1, 2**31 - 1])
ODD = {
    "event_id": IDS,
    "user_id": IDS,
    "session_id": IDS,
    "item_id": IDS,
    "recommendation_id": IDS,
    "event_type": st.sampled_from([*range(11), -1, 77]),
    "quantity": NUMBERS,
    "dwell_ms": NUMBERS,
    "value": st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 1e308, math.inf, math.nan]),
    "currency_code": st.sampled_from(["", "EUR", "eur", "EURO", "E1R"]),
    "search_query": st.sampled_from(["", "red shoes", "q" * 1025]),
    "event_time": st.builds(
        Timestamp,
        seconds=st.sampled_from([-(2**63), 0, NOW_MS // 1000, NOW_MS // 1000 + 301, 2**62]),
        nanos=st.sampled_from([-1, 0, 999_999_999, 1_000_000_000]),
    ),
    "impression_item_ids": st.sampled_from([[], ["a"], [""]]),
    "properties": st.sampled_from([{}, {"a": "b"}, {"": "b"}]),
}


def plain(**fields: object) -> pb.Event:
    usual: dict[str, object] = {
        "event_id": "e-1",
        "event_type": pb.EVENT_TYPE_VIEW,
        "session_id": "s-1",
        "item_id": "item-1",
    }
    return pb.Event(**(usual | fields))  # type: ignore[arg-type]


def refused(event: pb.Event) -> bool:
    try:
        check_event(event, "event", NOW_MS)
    except InvalidInput:
        return True
    return False


@given(fields=st.fixed_dictionaries({}, optional=ODD))
def test_what_is_plain_is_right(fields: dict[str, object]) -> None:
    event = plain(**fields)
    assert not (is_plain_event(event, NOW_MS) and refused(event))


@given(data=st.data(), name=st.sampled_from(sorted(ODD)))
def test_one_odd_field_is_seen(data: st.DataObject, name: str) -> None:
    event = plain(**{name: data.draw(ODD[name])})
    assert not (is_plain_event(event, NOW_MS) and refused(event))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"user_id": "u-1"},
        {"event_type": pb.EVENT_TYPE_ADD_TO_CART, "quantity": 2, "value": 12.5},
        {"event_time": Timestamp(seconds=NOW_MS // 1000 - 60)},
        {"recommendation_id": "r-1", "dwell_ms": 1500},
    ],
)
def test_what_shops_send_is_plain(fields: dict[str, object]) -> None:
    assert is_plain_event(plain(**fields), NOW_MS)
