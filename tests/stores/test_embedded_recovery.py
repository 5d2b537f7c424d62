"""What the file holds is what memory shows, whatever goes wrong between the two."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recserv.errors import StoreUnavailable, UsageError
from recserv.stores.base import AppendEvent, AppendStatus
from recserv.stores.embedded import EmbeddedStore
from recserv.stores.state import apply_to_session
from recserv.types import EventType, SessionState
from tests.stores.support import OpenStore, Recorder, items_of, make, put, read_one, statuses

DUPLICATE, UNAVAILABLE = AppendStatus.DUPLICATE, AppendStatus.UNAVAILABLE


def io_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR, "SQLITE_IOERR"
    return error


class FailsAfterCommit:
    """A connection whose commits work and say that they did not."""

    def __init__(self, connection: sqlite3.Connection, error: Exception):
        self._connection, self._error = connection, error

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        cursor = self._connection.execute(sql, *parameters)
        if sql == "COMMIT":
            raise self._error
        return cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def commits_fail(store: EmbeddedStore, error: Exception) -> None:
    """Until the file is opened again."""

    def spoil() -> None:
        log = store._writer.ready_log()
        log.connection = FailsAfterCommit(log.connection, error)  # type: ignore[assignment]

    await store._on_writer(spoil)


@pytest.mark.parametrize("error", [io_error(), MemoryError()], ids=["I/O error", "a fault of ours"])
async def test_an_event_whose_commit_failed_but_survived_is_seen_once_it_is_a_duplicate(
    error: Exception, opened: OpenStore, hooks: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened()
    await put(store, make("e1", "a", kind=EventType.ADD_TO_CART))
    await commits_fail(store, error)
    lost = [make("e2", "b", kind=EventType.ADD_TO_CART), make("e3", "c", session_id="other")]
    with caplog.at_level(logging.CRITICAL):
        assert statuses(await store.append("default", lost)) == [UNAVAILABLE] * 2
    assert statuses(await store.append("default", lost)) == [DUPLICATE] * 2
    state = await read_one(store)
    assert (items_of(state), state.profile.cart, state.sequence) == (["a", "b"], {"a": 1, "b": 1}, 3)
    assert items_of(await read_one(store, "other")) == ["c"]
    assert hooks.commits == [1, 2]
    await put(store, make("e4", "d"))
    assert items_of(await read_one(store)) == ["a", "b", "d"]


async def test_a_sweep_that_reopens_the_file_shows_events_that_survived_a_failed_commit(opened: OpenStore) -> None:
    store = await opened()
    await commits_fail(store, io_error())
    assert statuses(await store.append("default", [make("e1", "a")])) == [UNAVAILABLE]
    await store.sweep()
    assert items_of(await read_one(store)) == ["a"]


async def test_an_opening_that_fails_halfway_is_done_again(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened()
    await commits_fail(store, io_error())
    event = make("e1", "a")
    assert statuses(await store.append("default", [event])) == [UNAVAILABLE]
    with monkeypatch.context() as patch, caplog.at_level(logging.CRITICAL):

        def fail(*arguments: object) -> object:
            raise io_error()

        patch.setattr("recserv.stores.sqlite_log.select_profiles", fail)
        assert statuses(await store.append("default", [event])) == [UNAVAILABLE]
    assert statuses(await store.append("default", [event])) == [DUPLICATE]
    assert items_of(await read_one(store)) == ["a"]


# Faults of ours between the commit and the answer


async def test_events_that_memory_cannot_take_are_answered_and_shown_once_they_are_duplicates(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened()
    event = make("e1", "a", kind=EventType.ADD_TO_CART)
    with monkeypatch.context() as patch, caplog.at_level(logging.CRITICAL):
        patch.setattr("recserv.stores.memory.apply_to_session", lambda *arguments: 1 / 0)
        assert statuses(await store.append("default", [event])) == [UNAVAILABLE]
    assert store.queued_events == 0
    assert statuses(await store.append("default", [event])) == [DUPLICATE]
    state = await read_one(store)
    assert (items_of(state), state.profile.cart, state.sequence) == (["a"], {"a": 1}, 1)


async def test_an_event_that_memory_can_never_take_does_not_hold_up_the_ones_after_it(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened()

    def apply(session: SessionState, append: AppendEvent, sequence: int) -> SessionState:
        if append.event.event_id == "bad":
            raise ZeroDivisionError
        return apply_to_session(session, append, sequence)

    monkeypatch.setattr("recserv.stores.memory.apply_to_session", apply)
    with caplog.at_level(logging.CRITICAL):
        assert statuses(await store.append("default", [make("bad", "a")])) == [UNAVAILABLE]
        await put(store, make("e2", "b"))
    assert items_of(await read_one(store)) == ["b"]


# A file that is damaged


def execute(sql: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute(sql)
        connection.close()

    return damage


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite_all_but_the_first_page(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4096].ljust(path.stat().st_size, b"\xa5"))


DAMAGE = {
    "cut off": cut_in_half,
    "overwritten": overwrite_all_but_the_first_page,
    "an event that cannot be decoded": execute("UPDATE log SET body = x'93a1'"),
    "an event of another shape": execute("UPDATE log SET body = x'93010203'"),
    "a name that is no text": execute("UPDATE profiles SET key = x'ff' WHERE id = 1"),
    "a tenant that is no text": execute("UPDATE log SET tenant = x'ff'"),
    "a time that is no number": execute("UPDATE log SET arrival_ms = 'late'"),
    "without a table": execute("DROP TABLE profiles"),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_file_is_refused_by_name_with_what_to_do(damage: str, path: Path, opened: OpenStore) -> None:
    store = await opened()
    await put(store, *[make(f"e{n}", session_id=f"s{n}", properties={"p": "x" * 500}) for n in range(50)])
    await store.close()
    DAMAGE[damage](path)
    for _ in range(2):
        # The second time the lock is free again.
        with pytest.raises(UsageError, match="is damaged or no state file") as caught:
            await opened()
        told = str(caught.value)
        assert str(path) in told
        assert ".recover" in told
        assert "move it away" in told


async def test_an_event_that_cannot_be_decoded_any_more_is_an_error_of_the_file(opened: OpenStore) -> None:
    store = await opened(profiles_in_memory_max=1)
    await put(store, make("e1", "a"), make("e2", "b", session_id="other"))

    def spoil() -> None:
        store._writer.ready_log().connection.execute("UPDATE profiles SET body = x'91'")

    await store._on_writer(spoil)
    with pytest.raises(StoreUnavailable, match="could not be read"):
        await read_one(store)
