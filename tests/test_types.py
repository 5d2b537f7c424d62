"""What of the shared types is stored, and so outlives a release."""

from __future__ import annotations

import msgspec

from recserv.stores.keys import event_digest, timeline_key
from recserv.types import Event, EventType, body_hash
from tests.stores.support import EARLIER_EVENT, EARLIER_HASH


class NextEvent(Event, frozen=True, kw_only=True):
    """As a later release may know it."""

    channel: str = ""
    coupons: tuple[str, ...] = ()


def later(event: Event, **fields: object) -> NextEvent:
    return NextEvent(**{name: getattr(event, name) for name in event.__struct_fields__}, **fields)  # type: ignore[arg-type]


def test_the_hash_of_a_stored_event_stays_what_it_was() -> None:
    assert body_hash(EARLIER_EVENT) == EARLIER_HASH
    assert body_hash(Event()).hex() == "fb873de82481c5b42b8fcd363828e524"
    everything = Event(
        event_id="e",
        event_type=EventType.IMPRESSION,
        user_id="u",
        session_id="s",
        item_id="i",
        quantity=1,
        value=0.25,
        currency_code="SEK",
        search_query="r\u00f8d sko",
        event_time_ms=1,
        dwell_ms=77,
        recommendation_id="r",
        impression_item_ids=("x", "y"),
        properties={"k": "v"},
    )
    assert body_hash(everything).hex() == "5d8fe5638bc88fa3d6d1d7a1beb715e4"


def test_the_name_of_a_stored_event_id_stays_what_it_was() -> None:
    assert event_digest(timeline_key("default", "s", "u"), "e-1").hex() == "862810d175d3f02b4b04d0de1f39d0bc"
    assert event_digest(timeline_key("default", "", "u"), "e-1").hex() == "b1445fdbdc51175b2f6a56dd5e86f796"


def test_a_field_that_events_get_later_changes_no_hash_unless_it_is_set() -> None:
    assert body_hash(later(EARLIER_EVENT)) == EARLIER_HASH
    assert body_hash(later(EARLIER_EVENT, channel="")) == EARLIER_HASH
    hashes = {
        body_hash(later(EARLIER_EVENT, **fields))
        for fields in ({}, {"channel": "app"}, {"channel": "web"}, {"coupons": ("app",)}, {"coupons": ("a", "pp")})
    }
    assert len(hashes) == 5


def test_any_field_that_the_caller_sets_changes_the_hash() -> None:
    changes = {
        "quantity": 3,
        "value": 9.25,
        "currency_code": "",
        "event_time_ms": None,
        "properties": {"a": "1"},
        "impression_item_ids": ("i",),
    }
    hashes = {body_hash(msgspec.structs.replace(EARLIER_EVENT, **{name: value})) for name, value in changes.items()}
    assert len(hashes | {EARLIER_HASH}) == len(changes) + 1
    turned = msgspec.structs.replace(EARLIER_EVENT, properties={"a": "1", "b": "2"})
    assert body_hash(turned) == EARLIER_HASH
