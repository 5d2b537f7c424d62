"""Packed sessions read in place, against the decoder in Python."""

from __future__ import annotations

import contextlib
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recserv._codec import ItemLookup, scan_session, session_columns
from recserv.stores.packed import Undecodable, pack_session, unpack_session
from recserv.types import EventType, SessionEvent, SessionState

NOW_MS = 1_750_000_000_000
ITEMS = ["", "a", "item-1", "item-2", "商品", "e\u0301", "x" * 256, *[f"i{n}" for n in range(500)]]
WANTED = np.ones(256, np.uint8)

ids = st.one_of(st.sampled_from(ITEMS), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
times = st.integers(NOW_MS - 10**8, NOW_MS + 10**6)
events = st.builds(
    SessionEvent,
    st.integers(1, 9),
    ids,
    times,
    times,
    st.integers(1, 2**53),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.integers(0, 5),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(0, 2**40),
)
sessions = st.builds(SessionState, st.lists(events, max_size=40).map(tuple), st.integers(1, 2**53))


@cache
def lookup() -> ItemLookup:
    return ItemLookup(ITEMS)


@given(sessions, times)
def test_columns_are_those_of_the_decoder(session: SessionState, horizon_ms: int) -> None:
    wanted = WANTED.copy()
    wanted[EventType.RATE] = 0
    packed = pack_session(session)
    visible = [event for event in session.events if event.arrival_ms > horizon_ms]
    assert scan_session(packed, horizon_ms) == (len(visible), session.version)
    kinds, ages_s, item_rows, texts = session_columns(packed, horizon_ms, NOW_MS, wanted, lookup())
    kept = [event for event in visible if event.event_type != EventType.RATE]
    assert kinds.tolist() == [event.event_type for event in kept]
    ages = [max(NOW_MS - event.event_time_ms, 0) / 1000 for event in kept]
    np.testing.assert_array_equal(ages_s, np.array(ages, np.float32))
    place = {item: item_row for item_row, item in enumerate(ITEMS)}
    assert item_rows.tolist() == [place.get(event.item_id, -1) for event in kept]
    assert texts == {n: event.search_query for n, event in enumerate(kept) if event.search_query}
    assert (kinds.dtype, ages_s.dtype, item_rows.dtype) == (np.uint8, np.float32, np.int32)


def damaged(packed: bytes, data: st.DataObject) -> bytes:
    changed = bytearray(packed)
    for _ in range(data.draw(st.integers(0, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(changed)))
    return bytes(changed[:end]) if data.draw(st.booleans()) else bytes(changed)


@given(sessions, st.data())
def test_what_the_decoder_refuses_is_refused_and_nothing_else(session: SessionState, data: st.DataObject) -> None:
    packed = damaged(pack_session(session), data)
    try:
        decoded = unpack_session(packed)
    except Undecodable:
        with pytest.raises(ValueError):
            scan_session(packed, 0)
        # Ids are compared as bytes here, so one that is no text is only an item that nobody knows.
        with contextlib.suppress(ValueError):
            session_columns(packed, 0, NOW_MS, WANTED, lookup())
        return
    size, _ = scan_session(packed, -(2**62))
    assert size == len([event for event in decoded.events if event.arrival_ms > -(2**62)])
    kinds, *_ = session_columns(packed, -(2**62), NOW_MS, WANTED, lookup())
    assert len(kinds) == size


@given(st.binary(max_size=300))
@example(b"")
@example(b"\x01" + b"\xff" * 100)
@example(b"\x01\0\xff\xff" + b"\0" * 24)
def test_garbage_is_refused(data: bytes) -> None:
    for read in (lambda: scan_session(data, 0), lambda: session_columns(data, 0, NOW_MS, WANTED, lookup())):
        with contextlib.suppress(ValueError):
            read()


@given(st.lists(ids, unique=True, max_size=60), ids)
def test_the_item_lookup_agrees_with_a_dictionary(known: list[str], asked: str) -> None:
    table = ItemLookup(known)
    assert [table.row(item) for item in known] == list(range(len(known)))
    assert table.row(asked) == {item: n for n, item in enumerate(known)}.get(asked, -1)


def test_bounds_are_checked_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="256"):
        session_columns(pack_session(SessionState()), 0, NOW_MS, np.ones(9, np.uint8), lookup())
