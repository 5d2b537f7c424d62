"""The key of consistency tokens: one for all who share a state, and as lasting as the state."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from recserv.errors import UsageError
from recserv.pipeline.tokens import decode_token, encode_token
from recserv.stores import sqlite_file
from recserv.stores.redis import RedisLimits, RedisStore
from recserv.stores.redis_token_key import KEY, RedisTokenKey
from recserv.stores.sqlite_file import token_key
from tests.patience import TEST_GUARD_S, eventually_async
from tests.redis_server import RedisServer
from tests.stores.redis_support import PATIENT
from tests.stores.support import OpenStore, make, put, read_one

OFTEN_S = 0.001
OpenRedis = Callable[..., Awaitable[RedisStore]]


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port) as client:
        yield client
        client.config_set("maxmemory", 0)


@pytest.fixture
async def on_redis(server: RedisServer) -> AsyncIterator[OpenRedis]:
    """Stores of servers that share one Redis."""
    stores: list[RedisStore] = []

    async def open_store(check_s: float = TEST_GUARD_S) -> RedisStore:
        store = RedisStore(server.url, limits=RedisLimits(timeouts=PATIENT, token_key_check_s=check_s))
        stores.append(store)
        await store.open()
        return store

    yield open_store
    for store in stores:
        await store.close()


# Redis


async def test_servers_that_start_at_once_on_an_empty_redis_have_one_key(on_redis: OpenRedis) -> None:
    stores = await asyncio.gather(*[on_redis() for _ in range(8)])
    assert len({store.token_key for store in stores}) == 1


async def test_a_token_of_one_server_is_taken_by_another(on_redis: OpenRedis) -> None:
    one, other = await on_redis(), await on_redis()
    [result] = await put(one, make("e1", "a"))
    token = decode_token(encode_token(one.token_key, "default", "session", "", result.sequence))
    assert token.made_with(other.token_key)


async def test_the_key_stays_for_ever(on_redis: OpenRedis, admin: redis.Redis) -> None:
    store = await on_redis()
    assert admin.get(KEY) == store.token_key
    assert admin.ttl(KEY) == -1


async def test_appends_and_reads_do_not_touch_the_token_key_in_redis(on_redis: OpenRedis, admin: redis.Redis) -> None:
    store = await on_redis()
    admin.delete(KEY)
    key = store.token_key
    await put(store, make("e1", "a"))
    await read_one(store)
    assert (store.token_key, admin.exists(KEY)) == (key, 0)


async def test_a_redis_that_lost_its_state_has_a_new_key_and_all_servers_find_it(
    on_redis: OpenRedis, admin: redis.Redis
) -> None:
    stores = [await on_redis(OFTEN_S) for _ in range(3)]
    outlived = decode_token(encode_token(stores[0].token_key, "default", "session", "", 1))
    admin.flushall()

    async def agree_on_another() -> bool:
        [key, *others] = {store.token_key for store in stores}
        return not others and not outlived.made_with(key)

    await eventually_async(agree_on_another)
    assert admin.get(KEY) == stores[0].token_key


async def test_a_redis_that_takes_no_key_is_served_all_the_same_and_asked_again(
    on_redis: OpenRedis, admin: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """A full Redis answers reads: what was readable before there were keys must stay so."""
    admin.config_set("maxmemory", 1)
    with caplog.at_level(logging.WARNING):
        store = await on_redis(OFTEN_S)
    passing = store.token_key
    assert len(passing) == 32
    assert (await read_one(store)).sequence == 0
    assert "not known yet" in caplog.text
    admin.config_set("maxmemory", 0)

    async def shared() -> bool:
        return store.token_key != passing and admin.get(KEY) == store.token_key

    await eventually_async(shared)


class ForgetfulRouter:
    """Of a Redis that is flushed after every command."""

    def begin(self, slot: int, args: Sequence[object], *, write: bool) -> object:
        return args

    async def finish(self, slot: int, call: object, *, write: bool) -> object:
        return b"OK" if write else None


async def test_a_redis_flushed_while_the_key_is_made_is_only_asked_again_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router: Any = ForgetfulRouter()
    key = RedisTokenKey(router, TEST_GUARD_S)
    before = key.value
    await key.look()
    assert (key.value, key.shared, caplog.records) == (before, False, [])


async def test_something_else_in_the_keys_place_is_said_and_harms_nothing(
    on_redis: OpenRedis, admin: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    admin.set(KEY, "short")
    store = await on_redis()
    assert len(store.token_key) == 32
    assert "delete it" in caplog.text
    assert admin.get(KEY) == b"short"


# SQLite


async def test_another_file_has_another_key(path: Path, opened: OpenStore) -> None:
    store = await opened()
    before = store.token_key
    await store.close()
    for name in os.listdir(path.parent):
        (path.parent / name).unlink()
    assert (await opened()).token_key != before


async def test_a_file_of_an_earlier_release_is_given_a_key_and_is_still_one_of_its_own(
    path: Path, opened: OpenStore
) -> None:
    store = await opened()
    await put(store, make("e1", "a"))
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE token_key")
        version = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    store = await opened()
    key = store.token_key
    assert len(key) == 32
    await store.close()
    assert (await opened()).token_key == key
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == version
    connection.close()


def test_a_file_without_room_for_a_key_is_served_with_a_passing_one(path: Path) -> None:
    connection = sqlite_file.open_writer(path, synchronous="OFF", file_bytes_max=None)
    try:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        passing = token_key(connection)
        assert len(passing) == 32
        assert not connection.in_transaction
        connection.execute("PRAGMA max_page_count = 1000000")
        kept = token_key(connection)
        assert (kept != passing, token_key(connection)) == (True, kept)
    finally:
        connection.close()


async def test_a_token_key_of_the_wrong_length_is_reported_as_damage(path: Path, opened: OpenStore) -> None:
    await (await opened()).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE token_key SET key = 'short'")
    connection.close()
    with pytest.raises(UsageError, match="damaged"):
        await opened()
