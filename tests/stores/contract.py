"""The contract of `StateStore`: a backend passes by subclassing `StoreContract` with a `backend` fixture."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from recserv.stores.base import EVENT_AHEAD_MS_MAX, AppendStatus, StateStore
from recserv.types import (
    SESSION_EVENTS_MAX,
    SESSION_TTL_MS,
    SESSION_WINDOW_MS,
    EventType,
    ShopperKey,
)
from tests.stores.support import (
    DAY_MS,
    EARLIER_EVENT,
    EARLIER_HASH,
    MINUTE_MS,
    START_MS,
    Backend,
    ManualClock,
    append_of,
    items_of,
    make,
    put,
    read_one,
    statuses,
)
from tests.stores.versions_contract import STRANGE_IDS, VersionsContract

ACCEPTED, DUPLICATE, CONFLICT = AppendStatus.ACCEPTED, AppendStatus.DUPLICATE, AppendStatus.CONFLICT


class StoreContract(VersionsContract):
    """Every test gets an empty backend; `clock` starts at START_MS."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def store(self, backend: Backend, clock: ManualClock) -> AsyncIterator[StateStore]:
        store = await backend.start(clock)
        yield store
        await store.close()

    # Idempotency

    async def test_the_same_event_again_is_a_duplicate_with_the_first_sequence(self, store: StateStore) -> None:
        (first,) = await put(store, make("e1", "a"))
        (second,) = await store.append("default", [make("e1", "a", at=START_MS + 5)])
        assert (second.status, second.sequence) == (DUPLICATE, first.sequence)
        state = await read_one(store)
        assert (items_of(state), state.profile.event_count) == (["a"], 1)

    async def test_the_same_id_with_another_body_is_a_conflict_and_changes_nothing(self, store: StateStore) -> None:
        await put(store, make("e1", "a"))
        before = await read_one(store)
        (result,) = await store.append("default", [make("e1", "b")])
        assert (result.status, result.sequence) == (CONFLICT, 0)
        assert result.error
        assert await read_one(store) == before

    async def test_ids_are_unique_within_one_call_too(self, store: StateStore) -> None:
        results = await store.append("default", [make("e1", "a"), make("e1", "a"), make("e1", "b"), make("e2", "c")])
        assert statuses(results) == [ACCEPTED, DUPLICATE, CONFLICT, ACCEPTED]
        assert results[1].sequence == results[0].sequence
        assert items_of(await read_one(store)) == ["a", "c"]

    async def test_an_id_is_free_in_every_other_timeline(self, store: StateStore) -> None:
        await put(store, make("e1", "a"))
        await put(store, make("e1", "b", session_id="other"))
        await put(store, make("e1", "c", session_id="", user_id="session"))
        assert items_of(await read_one(store, "", "session")) == ["c"]

    async def test_the_scope_of_an_id_is_the_session_even_if_the_user_becomes_known(self, store: StateStore) -> None:
        await put(store, make("e1", "a"))
        (result,) = await store.append("default", [make("e1", "a", user_id="user")])
        assert result.status == CONFLICT

    async def test_ids_are_kept_as_long_as_a_retry_can_pass_the_check_of_its_age(
        self, store: StateStore, clock: ManualClock
    ) -> None:
        ahead_ms = START_MS + EVENT_AHEAD_MS_MAX
        await put(store, make("e1", "a", event_time_ms=ahead_ms))
        clock.advance(DAY_MS + EVENT_AHEAD_MS_MAX)
        (retry,) = await store.append("default", [make("e1", "a", at=clock(), event_time_ms=ahead_ms)])
        assert retry.status == DUPLICATE

    async def test_an_id_is_free_again_after_its_retention(self, store: StateStore, clock: ManualClock) -> None:
        (first,) = await put(store, make("e1", "a"))
        clock.advance(DAY_MS + EVENT_AHEAD_MS_MAX + 1)
        (again,) = await put(store, make("e1", "b", at=clock()))
        assert again.sequence > first.sequence
        assert statuses(await store.append("default", [make("e1", "b", at=clock())])) == [DUPLICATE]

    async def test_an_event_that_an_earlier_release_has_stored_is_a_duplicate_after_the_upgrade(
        self, store: StateStore
    ) -> None:
        stored = append_of(EARLIER_EVENT, START_MS)
        await put(store, msgspec.structs.replace(stored, body_hash=EARLIER_HASH))
        assert statuses(await store.append("default", [stored])) == [DUPLICATE]

    async def test_an_empty_append_is_no_error(self, store: StateStore) -> None:
        assert await store.append("default", []) == []

    # Sessions

    async def test_an_acknowledged_event_is_in_the_next_read(self, store: StateStore) -> None:
        for number in range(30):
            (result,) = await put(store, make(f"e{number}", f"i{number}", at=START_MS + number))
            state = await read_one(store)
            assert items_of(state)[-1] == f"i{number}"
            assert state.session.version == result.sequence <= state.sequence
            assert state.profile.sequence == result.sequence

    async def test_a_session_is_ordered_by_event_time_then_acknowledgement(self, store: StateStore) -> None:
        await put(
            store,
            make("e1", "third", event_time_ms=START_MS - 10),
            make("e2", "last", event_time_ms=START_MS),
            make("e3", "first", event_time_ms=START_MS - 60_000),
            make("e4", "fourth", event_time_ms=START_MS - 10),
        )
        await put(store, make("e5", "second", at=START_MS + 1, event_time_ms=START_MS - 11))
        assert items_of(await read_one(store)) == ["first", "second", "third", "fourth", "last"]

    async def test_a_session_keeps_what_its_events_said(self, store: StateStore) -> None:
        await put(
            store,
            make("e1", "a", kind=EventType.ADD_TO_CART, quantity=3, value=2.5, dwell_ms=77, event_time_ms=START_MS - 9),
        )
        await put(store, make("e2", "", kind=EventType.SEARCH, search_query="rød sko", at=START_MS + 4))
        added, search = (await read_one(store)).session.events
        assert (added.event_type, added.item_id, added.quantity, added.value) == (EventType.ADD_TO_CART, "a", 3, 2.5)
        assert (added.dwell_ms, added.event_time_ms, added.arrival_ms) == (77, START_MS - 9, START_MS)
        assert (search.event_type, search.item_id, search.search_query) == (EventType.SEARCH, "", "rød sko")

    async def test_a_session_of_a_known_user_has_what_the_user_did_outside_of_any(
        self, store: StateStore, clock: ManualClock
    ) -> None:
        await put(store, make("e1", "a", event_time_ms=START_MS - 30), make("e2", "c", event_time_ms=START_MS - 10))
        before = await read_one(store, "session", "u")
        search = make("e1", "", kind=EventType.SEARCH, session_id="", user_id="u", search_query="q", at=START_MS + 1)
        disliked = make("e2", "b", kind=EventType.DISLIKE, session_id="", user_id="u", event_time_ms=START_MS - 20)
        await put(store, disliked, search)
        state = await read_one(store, "session", "u")
        assert items_of(state) == ["a", "b", "c", ""]
        assert state.session.events[-1].search_query == "q"
        assert state.session.version > before.session.version
        assert items_of(await read_one(store)) == ["a", "c"]
        assert items_of(await read_one(store, "new", "u")) == items_of(await read_one(store, "", "u")) == ["b", ""]
        many = [make(f"m{n}", f"i{n}", session_id="", user_id="u") for n in range(SESSION_EVENTS_MAX)]
        await put(store, *many)
        assert (await read_one(store, "session", "u")).session.size == SESSION_EVENTS_MAX
        clock.advance(SESSION_WINDOW_MS)
        assert items_of(await read_one(store, "session", "u")) == [""]

    async def test_impressions_never_enter_the_session_but_count(self, store: StateStore) -> None:
        (view,) = await put(store, make("e1", "a"))
        await put(store, make("e2", "", kind=EventType.IMPRESSION, impression_item_ids=("x", "y")))
        state = await read_one(store)
        assert (items_of(state), state.session.version, state.profile.event_count) == (["a"], view.sequence, 2)

    async def test_a_session_holds_at_most_the_newest_events(self, store: StateStore) -> None:
        count = SESSION_EVENTS_MAX + 20
        await put(store, *[make(f"e{n}", f"i{n}", at=START_MS + n) for n in range(count)])
        assert items_of(await read_one(store)) == [f"i{n}" for n in range(20, count)]
        await put(store, make("late", "late", at=START_MS + count, event_time_ms=START_MS - 1))
        assert items_of(await read_one(store)) == [f"i{n}" for n in range(20, count)]

    async def test_events_leave_the_session_by_their_arrival(self, store: StateStore, clock: ManualClock) -> None:
        # Dated ahead, yet it arrived first.
        await put(store, make("e1", "a", event_time_ms=START_MS + MINUTE_MS))
        clock.advance(10 * MINUTE_MS)
        await put(store, make("e2", "b", at=clock()))
        clock.now_ms = START_MS + SESSION_WINDOW_MS - 1
        assert items_of(await read_one(store)) == ["a", "b"]
        clock.advance(1)
        assert items_of(await read_one(store)) == ["b"]
        clock.advance(10 * MINUTE_MS)
        state = await read_one(store)
        assert (items_of(state), state.session.version) == ([], 0)

    async def test_a_session_is_gone_after_its_time_but_its_profile_is_not(
        self, store: StateStore, clock: ManualClock
    ) -> None:
        await put(store, make("e1", "a", kind=EventType.ADD_TO_CART))
        clock.advance(SESSION_TTL_MS)
        state = await read_one(store)
        assert (items_of(state), state.profile.cart) == ([], {"a": 1})
        await put(store, make("e2", "b", at=clock()))
        assert items_of(await read_one(store)) == ["b"]

    async def test_unknown_keys_give_empty_states(self, store: StateStore) -> None:
        await put(store, make("e1"))
        states = await store.read("default", [ShopperKey("nobody"), ShopperKey("", "nobody"), ShopperKey("n", "n")])
        for state in states:
            assert (state.session.events, state.session.version) == ((), 0)
            assert (state.profile.event_count, state.profile.cart, state.profile.sequence) == (0, {}, 0)

    async def test_a_batch_of_keys_is_answered_in_order(self, store: StateStore) -> None:
        await put(store, *[make(f"e{n}", f"i{n}", session_id=f"s{n}") for n in range(20)])
        keys = [ShopperKey(f"s{n}") for n in (7, 3, 7, 19, 0)]
        assert [items_of(state) for state in await store.read("default", keys)] == [
            ["i7"],
            ["i3"],
            ["i7"],
            ["i19"],
            ["i0"],
        ]
        assert await store.read("default", []) == []

    async def test_a_state_that_was_read_is_not_changed_by_later_events(self, store: StateStore) -> None:
        await put(store, make("e1", "a", kind=EventType.ADD_TO_CART))
        held = await read_one(store)
        await put(store, make("e2", "a", kind=EventType.ADD_TO_CART), make("e3", "a", kind=EventType.PURCHASE))
        assert (items_of(held), held.profile.cart, held.profile.purchases) == (["a"], {"a": 1}, ())

    # Cart, purchases, taste

    async def test_the_cart_adds_and_removes_units(self, store: StateStore) -> None:
        add, remove = EventType.ADD_TO_CART, EventType.REMOVE_FROM_CART
        await put(store, make("e1", "a", kind=add), make("e2", "a", kind=add, quantity=4), make("e3", "b", kind=add))
        assert (await read_one(store)).profile.cart == {"a": 5, "b": 1}
        await put(store, make("e4", "a", kind=remove, quantity=2))
        assert (await read_one(store)).profile.cart == {"a": 3, "b": 1}
        await put(store, make("e5", "a", kind=remove, quantity=9), make("e6", "nothing", kind=remove))
        assert (await read_one(store)).profile.cart == {"b": 1}
        await put(store, make("e7", "b", kind=add, quantity=6), make("e8", "b", kind=remove))
        assert (await read_one(store)).profile.cart == {}

    async def test_a_purchase_leaves_the_cart_and_is_the_newest_purchase(self, store: StateStore) -> None:
        await put(
            store,
            make("e1", "a", kind=EventType.ADD_TO_CART, quantity=2),
            make("e2", "b", kind=EventType.ADD_TO_CART),
            make("e3", "a", kind=EventType.PURCHASE, quantity=2, at=START_MS + 1),
            make("e4", "c", kind=EventType.PURCHASE, at=START_MS + 2),
            make("e5", "a", kind=EventType.PURCHASE, at=START_MS + 3),
        )
        profile = (await read_one(store)).profile
        assert profile.cart == {"b": 1}
        assert [(p.item_id, p.time_ms) for p in profile.purchases] == [("c", START_MS + 2), ("a", START_MS + 3)]

    async def test_a_user_keeps_one_profile_over_sessions(self, store: StateStore) -> None:
        await put(store, make("e1", "a", kind=EventType.ADD_TO_CART, session_id="s1", user_id="u"))
        await put(store, make("e2", "b", kind=EventType.ADD_TO_CART, session_id="s2", user_id="u"))
        await put(store, make("e3", "c", kind=EventType.ADD_TO_CART, session_id="", user_id="u"))
        for session_id in ("s1", "s2", "", "new"):
            profile = (await read_one(store, session_id, "u")).profile
            assert (profile.cart, profile.event_count) == ({"a": 1, "b": 1, "c": 1}, 3)
        assert (await read_one(store, "s1")).profile.cart == {}

    async def test_reading_a_known_user_merges_what_the_session_did_before(self, store: StateStore) -> None:
        await put(store, make("e1", "mine", kind=EventType.ADD_TO_CART, session_id="old", user_id="u"))
        await put(
            store,
            make("e2", "both", kind=EventType.ADD_TO_CART),
            make("e3", "bought", kind=EventType.PURCHASE, at=START_MS + 1),
            make("e4", "both", kind=EventType.ADD_TO_CART, quantity=2, user_id="u", at=START_MS + 2),
        )
        merged = (await read_one(store, "session", "u")).profile
        assert merged.cart == {"mine": 1, "both": 3}
        assert [purchase.item_id for purchase in merged.purchases] == ["bought"]
        assert merged.event_count == 4
        assert (await read_one(store, "", "u")).profile.cart == {"mine": 1, "both": 2}
        assert (await read_one(store, "session")).profile.cart == {"both": 1}

    async def test_whatever_changes_a_merged_profile_changes_its_sequence(self, store: StateStore) -> None:
        """Contexts are kept by it: however far one of the two profiles is ahead of the other."""
        await put(store, *[make(f"e{n}") for n in range(30)])
        await put(store, make("u0", session_id="other", user_id="u"))
        seen = [(await read_one(store, "session", "u")).profile.sequence]
        changes = [{"session_id": "other", "user_id": "u"}, {}, {"session_id": "", "user_id": "u"}, {"user_id": "u"}]
        for number, names in enumerate(changes * 3):
            await put(store, make(f"n{number}", kind=EventType.ADD_TO_CART, **names))
            seen.append((await read_one(store, "session", "u")).profile.sequence)
        assert seen == sorted(set(seen))

    async def test_what_the_known_user_takes_out_does_not_come_back(self, store: StateStore) -> None:
        add = EventType.ADD_TO_CART
        await put(store, *[make(f"e{n}", item, kind=add) for n, item in enumerate(("removed", "bought", "kept"))])
        await put(
            store,
            make("e8", "removed", kind=EventType.REMOVE_FROM_CART, user_id="u"),
            make("e9", "bought", kind=EventType.PURCHASE, user_id="u"),
        )
        merged = (await read_one(store, "session", "u")).profile
        assert merged.cart == {"kept": 1}
        assert merged.event_count == 5

    async def test_a_dislike_takes_the_place_of_the_taste_until_the_item_is_liked_again(
        self, store: StateStore, clock: ManualClock
    ) -> None:
        async def signs() -> dict[str, bool]:
            return {taste.item_id: taste.weight > 0 for taste in (await read_one(store)).profile.taste}

        await put(store, make("e1", "a"), make("e2", "b"), make("e3", "a", kind=EventType.DISLIKE))
        assert await signs() == {"a": False, "b": True}
        clock.advance(SESSION_TTL_MS)
        await put(store, make("e4", "a", at=clock(), event_time_ms=START_MS - 1), make("e5", "b", at=clock()))
        assert await signs() == {"a": False, "b": True}
        await put(store, make("e6", "a", at=clock()))
        assert await signs() == {"a": True, "b": True}

    # Isolation and names

    async def test_tenants_see_nothing_of_each_other(self, store: StateStore) -> None:
        await put(store, make("e1", "a", user_id="u"), tenant="one")
        await put(store, make("e1", "b", user_id="u"), tenant="two")
        assert items_of(await read_one(store, user_id="u", tenant="one")) == ["a"]
        assert items_of(await read_one(store, user_id="u", tenant="two")) == ["b"]
        assert items_of(await read_one(store, user_id="u", tenant="three")) == []

    async def test_any_text_is_an_id_and_no_two_are_mixed_up(self, store: StateStore) -> None:
        events = [
            make(f"e-{name}", f"item {name}", session_id=name, user_id=name, kind=EventType.ADD_TO_CART)
            for name in STRANGE_IDS
        ]
        await put(store, *events)
        assert statuses(await store.append("default", events)) == [DUPLICATE] * len(events)
        for name in STRANGE_IDS:
            state = await read_one(store, name, name)
            assert items_of(state) == [f"item {name}"]
            assert state.profile.cart == {f"item {name}": 1}

    # Concurrency

    async def test_many_appends_at_once_are_each_stored_once(self, store: StateStore) -> None:
        appends = [
            (f"s{n % 10}", make(f"e{n // 2}", f"i{n // 2}", session_id=f"s{n % 10}", user_id="u")) for n in range(400)
        ]

        async def append_and_read(session_id: str, append: object) -> AppendStatus:
            (result,) = await store.append("default", [append])  # type: ignore[list-item]
            state = await read_one(store, session_id, "u")
            assert result.sequence in {event.sequence for event in state.session.events}
            assert state.sequence >= result.sequence
            return result.status

        outcomes = await asyncio.gather(*[append_and_read(*entry) for entry in appends])
        # Events 2k and 2k + 1 share an id but not a session.
        assert outcomes.count(ACCEPTED) == 400
        again = await asyncio.gather(*[append_and_read(*entry) for entry in appends])
        assert again.count(DUPLICATE) == 400
        assert (await read_one(store, "", "u")).profile.event_count == 400

    async def test_of_the_same_event_sent_at_once_exactly_one_is_accepted(self, store: StateStore) -> None:
        results = await asyncio.gather(*[store.append("default", [make("e1", "a")]) for _ in range(20)])
        assert sorted(result.status for (result,) in results) == [ACCEPTED] + [DUPLICATE] * 19
        assert len({result.sequence for (result,) in results}) == 1

    async def test_sequences_grow_with_the_order_of_acknowledgement(self, store: StateStore) -> None:
        results = [(await put(store, make(f"e{n}")))[0] for n in range(10)]
        sequences = [result.sequence for result in results]
        assert sequences == sorted(set(sequences))

    async def test_cancelling_the_caller_neither_loses_nor_repeats_the_write(self, store: StateStore) -> None:
        for number in range(20):
            task = asyncio.create_task(store.append("default", [make(f"e{number}", f"i{number}")]))
            # One turn of the loop hands the write over; after it the caller goes away.
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        retried = await store.append("default", [make(f"e{number}", f"i{number}") for number in range(20)])
        assert statuses(retried) == [DUPLICATE] * 20
        assert items_of(await read_one(store)) == [f"i{number}" for number in range(20)]

    # Restart

    async def test_everything_acknowledged_outlives_a_restart(self, backend: Backend, clock: ManualClock) -> None:
        store = await backend.start(clock)
        await put(
            store,
            make("e1", "a", kind=EventType.ADD_TO_CART, user_id="u"),
            make("e2", "b", kind=EventType.PURCHASE),
            make("e3", "", kind=EventType.SEARCH, search_query="q", event_time_ms=START_MS - 5),
        )
        keys = [ShopperKey("session", "u"), ShopperKey("session"), ShopperKey("", "u")]
        before = await store.read("default", keys)
        await store.close()
        store = await backend.start(clock)
        try:
            assert await store.read("default", keys) == before
            assert statuses(await store.append("default", [make("e2", "b", kind=EventType.PURCHASE)])) == [DUPLICATE]
            (new,) = await put(store, make("e4", "c"))
            assert new.sequence > before[0].sequence
        finally:
            await store.close()

    async def test_the_key_of_tokens_is_kept_with_the_state(self, backend: Backend, clock: ManualClock) -> None:
        store = await backend.start(clock)
        key = store.token_key
        assert (type(key), len(key)) == (bytes, 32)
        await put(store, make("e1", "a"))
        assert store.token_key == key
        await store.close()
        store = await backend.start(clock)
        await store.close()
        assert store.token_key == key

    async def test_the_window_goes_on_over_a_restart(self, backend: Backend, clock: ManualClock) -> None:
        store = await backend.start(clock)
        await put(store, make("e1", "a"))
        clock.advance(20 * MINUTE_MS)
        await put(store, make("e2", "b", at=clock()))
        await store.close()
        clock.advance(15 * MINUTE_MS)
        store = await backend.start(clock)
        try:
            assert items_of(await read_one(store)) == ["b"]
        finally:
            await store.close()

    async def test_closing_finishes_the_writes_that_were_taken(self, backend: Backend, clock: ManualClock) -> None:
        store = await backend.start(clock)
        writes = [asyncio.create_task(store.append("default", [make(f"e{n}")])) for n in range(50)]
        await asyncio.sleep(0)
        await store.close()
        assert {result.status for (result,) in await asyncio.gather(*writes)} == {ACCEPTED}
        store = await backend.start(clock)
        try:
            assert (await read_one(store)).profile.event_count == 50
        finally:
            await store.close()

    async def test_a_closed_store_refuses_and_closing_again_is_no_error(
        self, backend: Backend, clock: ManualClock
    ) -> None:
        store = await backend.start(clock)
        await store.close()
        await store.close()
        assert statuses(await store.append("default", [make("e1")])) == [AppendStatus.UNAVAILABLE]
