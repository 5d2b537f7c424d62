"""How Redis keeps a session and a profile: packed little-endian bytes, which Lua writes and Python and Cython read.

    head      of a partition: redis_keys.py
    session   head: version u8 = 1 · 0 u8 · events u16 · newest sequence u64 · event time of the last event i64
                    · no event arrived before i64                                                      28 bytes
              one record an event, oldest first by (event time, sequence); of more than SESSION_EVENTS_MAX the last
              ones count (a full session is cut now and then, not for each event):
                    bytes of the record u16 · type u8 · flags u8 · event time i64 · arrival i64 · sequence u64
                    · bytes of the item id u16 · item id
                    · with flag 1: quantity i64, value f64, dwell i64 · with flag 2: bytes of the query u16, query
    profile   head: version u8 = 1 · 0 u8 · cart lines u16 · purchases u16 · tastes u16 · event count u64
                    · sequence u64 · updated i64 · bytes of the cart u32 · bytes of the purchases u32   40 bytes
              cart lines: units i64, id · purchases: time i64, id · tastes: weight f64, time i64, id
              (id: its bytes u16, then UTF-8), each in the order of `types.Profile`

Times are milliseconds since the epoch. A view takes 30 bytes and its item id. What does not follow this to the last
byte raises Undecodable and nothing else: a reader takes it for nothing stored and counts it, the next event overwrites
it. Only bad records behind a session's good head stay, with the events in order that are added after them, until an
event makes the script look at them (a late one, or one that makes it cut the session) or the session expires.
"""

from __future__ import annotations

import math
import struct

import msgspec

from recserv.stores.state import EMPTY_PROFILE, EMPTY_SESSION
from recserv.types import SESSION_EVENTS_MAX, Event, Profile, Purchase, SessionEvent, SessionState, Taste

VERSION = 1
SESSION_HEAD = struct.Struct("<BBHQqq")
RECORD_HEAD = struct.Struct("<HBBqq")
SEQUENCE = struct.Struct("<Q")
DETAILS = struct.Struct("<qdq")
PROFILE_HEAD = struct.Struct("<BBHHHQQqII")
SESSION_VERSION_AT, PROFILE_VERSION_AT, VERSION_BYTES = 4, 16, 16
"""Where in their heads the newest sequence lies and, behind it in both, a time of the last events; the size of both."""
EVENT_TYPES = 9
HEAD = struct.Struct(f"<Qq{EVENT_TYPES}Q")
COUNT = struct.Struct("<q")
WEIGHT = struct.Struct("<dq")
LENGTH = struct.Struct("<H")
HAS_DETAILS, HAS_QUERY = 1, 2

_RECORD_MIN = RECORD_HEAD.size + SEQUENCE.size + LENGTH.size
_RECORD = struct.Struct("<HBBqqQH")
_ERRORS = (struct.error, UnicodeDecodeError, OverflowError)


class Head(msgspec.Struct, frozen=True):
    """`counts`: accepted events of type 1, 2, ..."""

    sequence: int = 0
    counts: tuple[int, ...] = ()


class Undecodable(ValueError):
    """Bytes that are no record of this version."""


def unpack_head(data: bytes | None) -> Head:
    """None: nothing was ever written. Raises Undecodable."""
    if data is None:
        return Head()
    try:
        sequence, _, *counts = HEAD.unpack(data)
    except struct.error as error:
        raise Undecodable("a head of another size") from error
    return Head(sequence, tuple(counts))


def pack_event(event: Event, event_time_ms: int, arrival_ms: int) -> tuple[bytes, bytes]:
    """The event's session record without its sequence: what stands before it and what stands after it.

    Raises struct.error or UnicodeEncodeError for what has no such form.
    """
    item = event.item_id.encode()
    tail = [LENGTH.pack(len(item)), item]
    flags = 0
    if event.quantity or event.value or event.dwell_ms:
        flags |= HAS_DETAILS
        tail.append(DETAILS.pack(event.quantity, event.value, event.dwell_ms))
    if event.search_query:
        flags |= HAS_QUERY
        query = event.search_query.encode()
        tail += (LENGTH.pack(len(query)), query)
    after = b"".join(tail)
    size = RECORD_HEAD.size + SEQUENCE.size + len(after)
    return RECORD_HEAD.pack(size, int(event.event_type), flags, event_time_ms, arrival_ms), after


def pack_session(session: SessionState) -> bytes:
    """What the script would have written; for tests and tools."""
    records = []
    for held in session.events:
        event = Event(
            event_type=held.event_type,  # type: ignore[arg-type]
            item_id=held.item_id,
            search_query=held.search_query,
            quantity=held.quantity,
            value=held.value,
            dwell_ms=held.dwell_ms,
        )
        before, after = pack_event(event, held.event_time_ms, held.arrival_ms)
        records.append(before + SEQUENCE.pack(held.sequence) + after)
    last_ms = session.events[-1].event_time_ms if session.events else 0
    oldest_ms = min((held.arrival_ms for held in session.events), default=0)
    head = SESSION_HEAD.pack(VERSION, 0, len(records), session.version, last_ms, oldest_ms)
    return b"".join([head, *records])


def unpack_session(data: bytes) -> SessionState:
    """Raises Undecodable."""
    try:
        version, _, count, newest, _, _ = SESSION_HEAD.unpack_from(data)
        if version != VERSION:
            raise Undecodable(f"a session of version {version}")
        at = SESSION_HEAD.size
        events = []
        for _ in range(count):
            event, at = _unpack_record(data, at)
            events.append(event)
    except _ERRORS as error:
        raise Undecodable(f"a session that is not whole: {error}") from error
    if at != len(data):
        raise Undecodable(f"a session with {len(data) - at} bytes too many")
    return SessionState(tuple(events[-SESSION_EVENTS_MAX:]), newest) if events else EMPTY_SESSION


def _unpack_record(data: bytes, at: int) -> tuple[SessionEvent, int]:
    size, kind, flags, time_ms, arrival_ms, sequence, item_bytes = _RECORD.unpack_from(data, at)
    end, place = at + size, at + _RECORD_MIN
    item = data[place : place + item_bytes].decode()
    place += item_bytes
    quantity, value, dwell_ms, query = 0, 0.0, 0, ""
    if flags & HAS_DETAILS:
        quantity, value, dwell_ms = DETAILS.unpack_from(data, place)
        place += DETAILS.size
    if flags & HAS_QUERY:
        (query_bytes,) = LENGTH.unpack_from(data, place)
        place += LENGTH.size
        query = data[place : place + query_bytes].decode()
        place += query_bytes
    if place != end or end > len(data) or flags > HAS_DETAILS + HAS_QUERY or not math.isfinite(value):
        raise Undecodable("a record of another size than it says")
    return SessionEvent(kind, item, time_ms, arrival_ms, sequence, query, quantity, value, dwell_ms), end


def pack_profile(profile: Profile) -> bytes:
    """What the script would have written; for tests and tools."""
    cart = b"".join([COUNT.pack(units) + _pack_id(item) for item, units in profile.cart.items()])
    purchases = b"".join([COUNT.pack(held.time_ms) + _pack_id(held.item_id) for held in profile.purchases])
    tastes = [WEIGHT.pack(held.weight, held.time_ms) + _pack_id(held.item_id) for held in profile.taste]
    head = PROFILE_HEAD.pack(
        VERSION,
        0,
        len(profile.cart),
        len(profile.purchases),
        len(profile.taste),
        profile.event_count,
        profile.sequence,
        profile.updated_ms,
        len(cart),
        len(purchases),
    )
    return b"".join([head, cart, purchases, *tastes])


def _pack_id(item_id: str) -> bytes:
    data = item_id.encode()
    return LENGTH.pack(len(data)) + data


def unpack_profile(data: bytes) -> Profile:
    """Raises Undecodable."""
    try:
        head = PROFILE_HEAD.unpack_from(data)
        version, _, carts, bought, liked, event_count, sequence, updated_ms, cart_bytes, purchases_bytes = head
        if version != VERSION:
            raise Undecodable(f"a profile of version {version}")
        at = PROFILE_HEAD.size
        purchases_at = at + cart_bytes
        taste_at = purchases_at + purchases_bytes
        cart, purchases, taste = {}, [], []
        for _ in range(carts):
            (units,) = COUNT.unpack_from(data, at)
            item, at = _unpack_id(data, at + COUNT.size)
            cart[item] = units
        if at != purchases_at or len(cart) != carts:
            raise Undecodable("a cart of another size than its profile says")
        for _ in range(bought):
            (time_ms,) = COUNT.unpack_from(data, at)
            item, at = _unpack_id(data, at + COUNT.size)
            purchases.append(Purchase(item, time_ms))
        if at != taste_at:
            raise Undecodable("purchases of another size than their profile says")
        for _ in range(liked):
            weight, time_ms = WEIGHT.unpack_from(data, at)
            item, at = _unpack_id(data, at + WEIGHT.size)
            if not math.isfinite(weight):
                raise Undecodable("a weight that is no number")
            taste.append(Taste(item, weight, time_ms))
    except _ERRORS as error:
        raise Undecodable(f"a profile that is not whole: {error}") from error
    if at != len(data):
        raise Undecodable(f"a profile with {len(data) - at} bytes too many")
    profile = Profile(cart, tuple(purchases), tuple(taste), event_count, sequence, updated_ms)
    return profile if sequence else EMPTY_PROFILE


def _unpack_id(data: bytes, at: int) -> tuple[str, int]:
    (size,) = LENGTH.unpack_from(data, at)
    at += LENGTH.size
    if at + size > len(data):
        raise Undecodable("an id that is cut off")
    return data[at : at + size].decode(), at + size
