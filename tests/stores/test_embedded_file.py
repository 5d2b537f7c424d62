from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recserv.errors import UsageError
from recserv.stores.base import EVENT_AHEAD_MS_MAX, AppendStatus
from recserv.stores.embedded import EmbeddedStore
from recserv.stores.sqlite_file import FileLock
from recserv.types import SESSION_TTL_MS, EventType
from tests.patience import HANG_GUARD_S, eventually_async
from tests.stores.support import (
    DAY_MS,
    ManualClock,
    OpenStore,
    Recorder,
    make,
    put,
    read_one,
)

UNAVAILABLE = AppendStatus.UNAVAILABLE


# The file


async def test_a_second_store_on_the_same_file_is_refused(path: Path, opened: OpenStore) -> None:
    await opened()
    second = EmbeddedStore(path)
    with pytest.raises(UsageError, match="in use by another server"):
        await second.open()
    await second.close()


async def test_another_process_on_the_same_file_is_refused_even_by_another_name(path: Path, opened: OpenStore) -> None:
    await opened()
    alias = path.with_name("alias.db")
    alias.symlink_to(path)
    program = (
        "import asyncio, sys\n"
        "from recserv.errors import UsageError\n"
        "from recserv.stores.embedded import EmbeddedStore\n"
        "try: asyncio.run(EmbeddedStore(sys.argv[1]).open())\n"
        "except UsageError as error: print(error); sys.exit(2)\n"
    )
    command = [sys.executable, "-c", program, str(alias)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANG_GUARD_S)
    assert ended.returncode == 2, ended.stderr
    assert "in use by another server (process" in ended.stdout


async def test_the_file_is_free_again_once_the_store_is_closed(opened: OpenStore) -> None:
    for _ in range(3):
        await (await opened()).close()


async def test_a_file_of_another_schema_version_is_refused_and_left_as_it_is(path: Path, opened: OpenStore) -> None:
    await (await opened()).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UsageError, match="schema version 99"):
        await opened()
    assert path.read_bytes() == before


async def test_a_database_of_another_application_is_refused(path: Path, opened: OpenStore) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(UsageError, match="another application"):
        await opened()


async def test_a_file_that_is_no_database_is_refused(path: Path, opened: OpenStore) -> None:
    path.write_bytes(b"not a database, but long enough to be looked at as one" * 100)
    with pytest.raises(UsageError, match="no state file"):
        await opened()


async def test_a_place_that_cannot_hold_a_file_is_refused(tmp_path: Path) -> None:
    for bad in (tmp_path / "nowhere" / "state.db", tmp_path):
        store = EmbeddedStore(bad)
        with pytest.raises(UsageError):
            await store.open()


@pytest.mark.parametrize("kind", ["another's", "no database", "a folder", "another version"])
async def test_a_start_that_is_refused_leaves_what_it_found(kind: str, path: Path, opened: OpenStore) -> None:
    if kind == "a folder":
        path.mkdir()
    elif kind == "no database":
        path.write_bytes(b"x" * 5000)
    elif kind == "another's":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE theirs (x)")
        connection.close()
    else:
        await (await opened()).close()
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    before = sorted(path.parent.iterdir())
    with pytest.raises(UsageError):
        await opened()
    assert sorted(path.parent.iterdir()) == before


@pytest.mark.parametrize("error", [UsageError("no write-ahead log here"), sqlite3.OperationalError("disk I/O error")])
async def test_a_start_that_fails_on_a_file_that_it_made_leaves_none(
    error: Exception, path: Path, opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: sqlite3.Connection, bytes_max: int) -> None:
        assert path.exists()
        raise error

    monkeypatch.setattr("recserv.stores.embedded.known_profiles", fail)
    with pytest.raises(UsageError):
        await opened()
    assert list(path.parent.iterdir()) == []


async def test_a_second_store_that_is_refused_leaves_the_lock_to_the_first(path: Path, opened: OpenStore) -> None:
    await opened()
    before = sorted(path.parent.iterdir())
    for _ in range(2):
        with pytest.raises(UsageError, match="in use"):
            await EmbeddedStore(path).open()
    assert sorted(path.parent.iterdir()) == before


def test_a_lock_that_was_taken_away_meanwhile_is_not_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that failed removes its lock just before another one, which had opened it, locks it."""
    failing, other = FileLock(path), FileLock(path)
    failing.acquire()
    open_lock, times = other._open, []

    def opened_before_it_was_removed(lock_path: str) -> int:
        fd = open_lock(lock_path)
        times.append(fd)
        if len(times) == 1:
            failing.release(undo=True)
        return fd

    monkeypatch.setattr(other, "_open", opened_before_it_was_removed)
    other.acquire()
    assert len(times) == 2
    with pytest.raises(UsageError, match="in use"):
        FileLock(path).acquire()
    other.release()


async def test_an_empty_file_becomes_a_state_file(path: Path, opened: OpenStore) -> None:
    path.touch()
    await put(await opened(), make("e1"))


async def test_a_refused_open_does_not_hold_the_lock(path: Path, opened: OpenStore) -> None:
    path.write_bytes(b"x" * 5000)
    with pytest.raises(UsageError):
        await opened()
    path.unlink()
    await put(await opened(), make("e1"))


async def test_the_connection_syncs_every_commit(opened: OpenStore) -> None:
    store = await opened()

    def settings() -> list[object]:
        connection = store._writer.ready_log().connection
        names = ("synchronous", "journal_mode", "auto_vacuum")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await store._on_writer(settings) == [2, "wal", 2]


# Sweeping


async def test_a_sweep_removes_what_expired_and_the_counters_still_agree(
    opened: OpenStore, clock: ManualClock, hooks: Recorder
) -> None:
    store = await opened(log_retention_ms=2 * DAY_MS, sweep_rows_per_step=7)
    await put(store, *[make(f"e{n}", session_id=f"s{n % 5}") for n in range(50)])
    clock.advance(DAY_MS + EVENT_AHEAD_MS_MAX + 1)
    await put(store, make("new", at=clock(), kind=EventType.CLICK))
    await store.sweep()
    assert (store.session_count, hooks.swept) == (1, [(50, 0, 0)])
    clock.advance(DAY_MS)
    await store.sweep()
    assert hooks.swept[1:] == [(0, 50, 0)]
    rows = {row.event_type: (row.accepted, row.swept, row.logged) for row in await store.counters()}
    assert rows == {EventType.VIEW: (50, 50, 0), EventType.CLICK: (1, 0, 1)}


async def test_sequences_are_never_used_again_even_if_the_whole_log_was_swept(
    opened: OpenStore, clock: ManualClock
) -> None:
    store = await opened(log_retention_ms=DAY_MS)
    *_, last = await put(store, *[make(f"e{n}") for n in range(10)])
    clock.advance(2 * DAY_MS)
    await store.sweep()
    assert await store.log_after(0, 100) == []
    await store.close()
    store = await opened(log_retention_ms=DAY_MS)
    assert store.sequence == last.sequence
    (new,) = await put(store, make("new", at=clock()))
    assert new.sequence == last.sequence + 1


async def test_the_log_is_bounded_by_number_but_keeps_what_live_sessions_need(
    opened: OpenStore, clock: ManualClock
) -> None:
    store = await opened(log_rows_max=20, sweep_rows_per_step=8)
    await put(store, *[make(f"e{n}", f"i{n}") for n in range(50)])
    await store.sweep()
    assert len(await store.log_after(0, 100)) == 50
    clock.advance(SESSION_TTL_MS + 1)
    await put(store, make("new", at=clock()))
    await store.sweep()
    assert [row.sequence for row in await store.log_after(0, 100)] == list(range(32, 52))


async def test_profiles_unused_for_long_go_and_anonymous_ones_sooner(opened: OpenStore, clock: ManualClock) -> None:
    store = await opened(
        profile_retention_ms=10 * DAY_MS, anonymous_profile_retention_ms=2 * DAY_MS, sweep_rows_per_step=3
    )
    await put(store, *[make(f"a{n}", session_id=f"s{n}") for n in range(5)])
    await put(store, *[make(f"u{n}", session_id="", user_id=f"u{n}") for n in range(5)])
    clock.advance(3 * DAY_MS)
    assert len((await store.sweep()).profile_keys) == 5
    assert (await read_one(store, "s0")).profile.event_count == 0
    assert (await read_one(store, "", "u0")).profile.event_count == 1
    clock.advance(8 * DAY_MS)
    assert len((await store.sweep()).profile_keys) == 5
    # A profile that comes back begins anew.
    await put(store, make("again", session_id="", user_id="u0", at=clock()))
    assert (await read_one(store, "", "u0")).profile.event_count == 1


async def test_the_file_does_not_grow_from_round_to_round(path: Path, opened: OpenStore, clock: ManualClock) -> None:
    store = await opened(log_retention_ms=DAY_MS, anonymous_profile_retention_ms=DAY_MS)
    sizes = []
    for day in range(6):
        for group in range(4):
            events = [
                make(f"e{day}-{group}-{n}", f"i{n}", session_id=f"s{day}-{n}", at=clock(), properties={"p": "x" * 300})
                for n in range(250)
            ]
            await put(store, *events)
        clock.advance(DAY_MS + EVENT_AHEAD_MS_MAX + 1)
        await store.sweep()
        await store._on_writer(
            lambda: store._writer.ready_log().connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        )
        sizes.append(path.stat().st_size)
    kept_free = 256 * 4096
    assert max(sizes) < kept_free + 200_000, sizes


async def test_the_background_sweeps_by_itself_and_survives_a_failure(
    opened: OpenStore, clock: ManualClock, hooks: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()
    store = await opened(sweep_interval_s=0.001)
    step = store._sweeper.step

    def fail_once(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(store._sweeper, "step", step)
        loop.call_soon_threadsafe(failed.set)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(store._sweeper, "step", fail_once)
    await eventually_async(failed.is_set, "a sweep fails")
    await put(store, make("e1"))
    clock.advance(2 * DAY_MS)
    await eventually_async(lambda: hooks.swept, "the next one works")
    assert hooks.swept == [(1, 0, 0)]
