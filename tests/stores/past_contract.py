"""The contract of `PastStore`: a backend passes by subclassing `PastContract` with a `backend` fixture."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Iterable, Sequence

import msgspec
import pytest

from recserv.pipeline.ingest import EventIngestor
from recserv.stores.past import PastResult, PastStore
from recserv.types import (
    CART_ITEMS_MAX,
    MARK_BYTES,
    PAST_EVENTS_MAX,
    PURCHASES_MAX,
    TASTE_ITEMS_MAX,
    Event,
    EventType,
    IngestStatus,
    Profile,
    ShopperKey,
    UserPast,
)
from tests.stores.support import DAY_MS, HOUR_MS, MINUTE_MS, START_MS, Backend, ManualClock, make, put

KINDS = [kind for kind in EventType if kind != EventType.UNSPECIFIED]
RETENTION_DAYS = 400


def past_event(number: int, item: str, time_ms: int, kind: EventType = EventType.PURCHASE, **fields: object) -> Event:
    return Event(event_id=f"e{number}", event_type=kind, item_id=item, user_id="u", event_time_ms=time_ms, **fields)  # type: ignore[arg-type]


def past_of(events: Iterable[Event], user_id: str = "u") -> UserPast:
    events = tuple(events)
    marks = [hashlib.blake2b(event.event_id.encode(), digest_size=MARK_BYTES).digest() for event in events]
    return UserPast(user_id, events, b"".join(marks))


def a_life(count: int, items: int = 400) -> list[Event]:
    """Events of every kind over a hundred days, of more items than a profile holds."""
    return [
        past_event(
            number,
            f"i{(number * 7919) % items}",
            START_MS - 100 * DAY_MS + number * 100 * DAY_MS // count,
            KINDS[(number * number + number // 3) % len(KINDS)],
            quantity=number % 3,
            value=float(number % 6),
        )
        for number in range(count)
    ]


async def profile_of(store: PastStore, user_id: str = "u") -> Profile:
    [state] = await store.read("default", [ShopperKey("", user_id)])
    return state.profile


async def live(store: PastStore, clock: ManualClock, events: Sequence[Event]) -> None:
    """The same events through the door that live ones take, each when it happened."""
    now_ms = clock.now_ms
    ingestor = EventIngestor(store, clock, retention_ms=DAY_MS)
    for event in events:
        assert event.event_time_ms is not None
        clock.now_ms = event.event_time_ms
        [outcome] = await ingestor.ingest("default", [event])
        assert outcome.status is IngestStatus.ACCEPTED
    clock.now_ms = now_ms


def assert_same(found: Profile, wanted: Profile) -> None:
    """But for the sequence, which is the store's order of writing, and the last digits of weights (Lua's powers)."""
    assert list(found.cart.items()) == list(wanted.cart.items())
    assert found.purchases == wanted.purchases
    assert [(t.item_id, t.time_ms) for t in found.taste] == [(t.item_id, t.time_ms) for t in wanted.taste]
    assert all(math.isclose(a.weight, b.weight, rel_tol=1e-9) for a, b in zip(found.taste, wanted.taste, strict=True))
    assert (found.event_count, found.updated_ms) == (wanted.event_count, wanted.updated_ms)


class PastContract:
    """Every test gets an empty backend; `clock` starts at START_MS."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def store(self, backend: Backend, clock: ManualClock) -> AsyncIterator[PastStore]:
        store = await backend.start(clock)
        yield store  # type: ignore[misc]
        await store.close()

    async def test_a_past_gives_the_profile_that_it_would_have_given_live(
        self, store: PastStore, clock: ManualClock
    ) -> None:
        events = a_life(250)
        assert await store.import_pasts("default", [past_of(events)]) == [PastResult(added=250)]
        lived = [msgspec.structs.replace(event, user_id="live") for event in events]
        await live(store, clock, lived)
        found = await profile_of(store)
        assert_same(found, await profile_of(store, "live"))
        assert (len(found.taste), found.event_count) == (TASTE_ITEMS_MAX, 250)
        assert 0 < len(found.purchases) <= PURCHASES_MAX
        assert 0 < len(found.cart) <= CART_ITEMS_MAX

    async def test_the_same_past_again_changes_nothing(self, store: PastStore) -> None:
        past = past_of(a_life(50))
        await store.import_pasts("default", [past])
        before = await profile_of(store)
        assert await store.import_pasts("default", [past]) == [PastResult(known=50)]
        assert await profile_of(store) == before

    async def test_overlapping_pasts_give_the_profile_of_the_whole_past(self, store: PastStore) -> None:
        events = a_life(90)
        first, second = past_of(events[:60]), past_of(events[30:])
        assert await store.import_pasts("default", [first]) == [PastResult(added=60)]
        assert await store.import_pasts("default", [second]) == [PastResult(added=30, known=30)]
        await store.import_pasts("default", [past_of(events, "whole")])
        assert_same(await profile_of(store), await profile_of(store, "whole"))

    async def test_live_events_go_on_from_a_past_and_are_seen(self, store: PastStore, clock: ManualClock) -> None:
        await store.import_pasts("default", [past_of([past_event(1, "a", START_MS - DAY_MS)])])
        before = await profile_of(store)
        await put(store, make("live", "b", kind=EventType.PURCHASE, session_id="", user_id="u"))
        after = await profile_of(store)
        assert [p.item_id for p in after.purchases] == ["a", "b"]
        assert after.event_count == 2
        assert after.sequence > before.sequence > 0

    async def test_a_past_joins_what_was_live_before_it_under_a_new_version(self, store: PastStore) -> None:
        await put(store, make("live", "b", kind=EventType.PURCHASE, session_id="s", user_id="u"))
        [before] = await store.read("default", [ShopperKey("s", "u")])
        await store.import_pasts("default", [past_of([past_event(1, "a", START_MS - DAY_MS)])])
        [after] = await store.read("default", [ShopperKey("s", "u")])
        assert [p.item_id for p in after.profile.purchases] == ["a", "b"]
        assert after.profile.updated_ms == START_MS
        assert after.profile.sequence > before.profile.sequence
        assert after.session == before.session

    async def test_only_to_remember_changes_no_profile_and_is_known_afterwards(self, store: PastStore) -> None:
        past = past_of([past_event(1, "a", START_MS - MINUTE_MS)])
        await put(store, make("live", "a", kind=EventType.PURCHASE, session_id="", user_id="u"))
        before = await profile_of(store)
        assert await store.import_pasts("default", [past], only_remember=True) == [PastResult(added=1)]
        assert await profile_of(store) == before
        assert await store.import_pasts("default", [past]) == [PastResult(known=1)]
        assert await profile_of(store) == before

    async def test_what_is_older_than_a_profile_is_kept_is_left_out(self, store: PastStore) -> None:
        old, young = START_MS - RETENTION_DAYS * DAY_MS - 1, START_MS - RETENTION_DAYS * DAY_MS + HOUR_MS
        past = past_of([past_event(1, "a", old), past_event(2, "b", young)])
        assert await store.import_pasts("default", [past]) == [PastResult(added=1, expired=1)]
        assert [p.item_id for p in (await profile_of(store)).purchases] == ["b"]

    async def test_a_user_of_more_events_than_a_shopper_has_is_left_out(self, store: PastStore) -> None:
        event = past_event(1, "a", START_MS)
        many = PAST_EVENTS_MAX + 1
        marks = b"".join(number.to_bytes(MARK_BYTES, "big") for number in range(many))
        past = UserPast("u", (event,) * many, marks)
        assert await store.import_pasts("default", [past]) == [PastResult(too_many=True)]
        assert await profile_of(store) == Profile()

    async def test_many_users_of_one_call_and_of_other_tenants_keep_apart(self, store: PastStore) -> None:
        pasts = [past_of([past_event(1, f"i{number}", START_MS)], f"u{number}") for number in range(40)]
        assert await store.import_pasts("default", pasts) == [PastResult(added=1)] * 40
        profiles = [await profile_of(store, f"u{number}") for number in range(40)]
        assert [[p.item_id for p in profile.purchases] for profile in profiles] == [[f"i{n}"] for n in range(40)]
        [other] = await store.read("other", [ShopperKey("", "u0")])
        assert other.profile == Profile()

    async def test_a_past_outlives_the_store_that_took_it(
        self, store: PastStore, backend: Backend, clock: ManualClock
    ) -> None:
        past = past_of(a_life(20))
        await store.import_pasts("default", [past])
        before = await profile_of(store)
        await store.close()
        again = await backend.start(clock)
        try:
            assert await profile_of(again) == before  # type: ignore[arg-type]
            assert await again.import_pasts("default", [past]) == [PastResult(known=20)]  # type: ignore[attr-defined]
            [result] = await put(again, make("live", session_id="", user_id="u"))
            assert (await profile_of(again)).event_count == 21  # type: ignore[arg-type]
            assert result.sequence > 0
        finally:
            await again.close()
