"""The part of the stores' contract that is about versions: what is asked for who is watched."""

from __future__ import annotations

import pytest

from recserv.errors import StoreUnavailable
from recserv.stores.base import AppendEvent, StateStore
from recserv.types import EventType, ShopperKey, ShopperState
from tests.stores.support import make, put

STRANGE_IDS = [
    "ключ-ключ",
    "商品/№1",
    "😀👩‍👩‍👧",
    "e\u0301 is not \u00e9",
    "\u00e9 is not e\u0301",
    "}{:*?[]%s%00'\";--",
    "{tenant:p001}",
    "a b\u00a0c\u2028d",
    "\U0010ffff",
    "x" * 256,
]


class VersionsContract:
    """`store` is opened and empty."""

    async def test_a_version_changes_with_what_a_read_gives_and_not_without(self, store: StateStore) -> None:
        keys = [ShopperKey("session"), ShopperKey("", "user"), ShopperKey("session", "user"), ShopperKey("other")]

        async def changed_by(*appends: AppendEvent) -> list[int]:
            versions, states = await store.versions("default", keys), await store.read("default", keys)
            await store.append("default", appends)
            found = [n for n, new in enumerate(await store.versions("default", keys)) if new != versions[n]]
            read = await store.read("default", keys)
            moved = [n for n, new in enumerate(read) if (new.session, new.profile) != _shown(states[n])]
            assert found == moved
            return found

        assert await changed_by(make("e1", "a")) == [0, 2]
        assert await changed_by(make("e1", "a")) == []
        assert await changed_by(make("e1", "b")) == []
        assert await changed_by(make("e2", "c", session_id="", user_id="user")) == [1, 2]
        assert await changed_by(make("e3", "a", kind=EventType.ADD_TO_CART)) == [0, 2]
        # Counts in the user's profile, and takes the item out of the anonymous cart.
        assert await changed_by(make("e4", "a", kind=EventType.PURCHASE, user_id="user")) == [0, 1, 2]
        assert await changed_by(make("e5", "a", session_id="third", user_id="user")) == [1, 2]
        assert await changed_by(make("e6", "a", kind=EventType.IMPRESSION)) == [0, 2]
        assert await changed_by(make("e7", "a", session_id="fourth")) == []

    async def test_versions_are_in_the_order_of_their_keys_and_of_their_tenant(self, store: StateStore) -> None:
        assert await store.versions("default", []) == []
        await put(store, *(make(f"e{n}", session_id=f"s{n % 7}") for n in range(20)))
        keys = [ShopperKey(f"s{n}", user) for n in range(8) for user in ("", "user")]
        together = await store.versions("default", keys)
        assert together == [(await store.versions("default", [key]))[0] for key in keys]
        assert together[-2] not in together[:-2:2], "of s7 nothing is known, of the others something is"
        unknown = await store.versions("other", keys)
        assert unknown[0::2] == [unknown[0]] * 8
        assert unknown[1::2] == [unknown[1]] * 8

    async def test_a_version_is_there_for_what_no_key_holds(self, store: StateStore) -> None:
        for name in STRANGE_IDS:
            before = await store.versions("default", [ShopperKey(name), ShopperKey("", name)])
            await put(store, make("e1", "a", session_id=name), make("e1", "a", session_id="", user_id=name))
            after = await store.versions("default", [ShopperKey(name), ShopperKey("", name)])
            assert [old != new for old, new in zip(before, after, strict=True)] == [True, True]

    async def test_a_closed_store_has_no_versions(self, store: StateStore) -> None:
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.versions("default", [ShopperKey("session")])


def _shown(state: ShopperState) -> tuple[object, object]:
    return state.session, state.profile
