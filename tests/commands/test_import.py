"""`recserv import`: files into both kinds of state, twice, overlapping, killed on the way, and what is refused."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from recserv import cli
from recserv.app.importing import past_store
from recserv.stores.embedded import EmbeddedStore
from recserv.stores.redis_keys import partition_of
from recserv.types import DAY_MS, DEFAULT_TENANT, HOUR_MS, Profile, ShopperKey
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT
from tests.redis_server import RedisServer, running_redis

USERS = [f"u{number}" for number in range(20)]
KINDS = ("view", "add_to_cart", "purchase", "remove_from_cart", "dislike", "rate", "search")
HEADER = "event_type,user_id,session_id,item_id,event_time,quantity,value\n"
# Neither of the last day, which is live, nor near the end of what is kept.
BEGIN_MS = time.time_ns() // 1_000_000 - 90 * DAY_MS


def rows(begin: int, end: int) -> list[str]:
    return [
        f"{KINDS[number % 7]},{USERS[(number * 7 + number // 11) % 20]},s{number // 9},i{number % 53},"
        f"{BEGIN_MS + number * HOUR_MS // 2},{number % 3},{number % 6}\n"
        for number in range(begin, end)
    ]


def write(path: Path, lines: list[str]) -> str:
    path.write_text(HEADER + "".join(lines))
    return str(path)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis"), options=["--appendfsync", "no"]) as server:
        yield server


@pytest.fixture(params=["embedded", "redis"])
def states(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Two empty ones."""
    if request.param == "embedded":
        return f"embedded:{tmp_path / 'one.db'}", f"embedded:{tmp_path / 'other.db'}"
    server: RedisServer = request.getfixturevalue("redis_server")
    with server.client() as client:
        client.flushall()
    return server.url, server.url.removesuffix("/0") + "/1"


def profiles(state: str) -> list[Profile]:
    """Of all users, without their sequence."""

    async def read() -> list[Profile]:
        store = past_store(state)
        await store.open()
        try:
            found = await store.read(DEFAULT_TENANT, [ShopperKey("", user) for user in USERS])
        finally:
            await store.close()
        return [msgspec.structs.replace(one.profile, sequence=0) for one in found]

    return asyncio.run(read())


def run_import(state: str, *files: str, **options: str) -> int:
    extra = [word for name, value in options.items() for word in (f"--{name}", value)]
    return cli.main(["import", "--state", state, "--events", *files, *extra])


def test_files_that_overlap_give_what_the_whole_gives_and_a_file_again_gives_nothing(
    states: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = states
    whole = write(tmp_path / "whole.csv", rows(0, 600))
    early, late = write(tmp_path / "early.csv", rows(0, 400)), write(tmp_path / "late.csv", rows(200, 600))
    assert run_import(one, whole) == 0
    wanted = profiles(one)
    assert sum(profile.event_count for profile in wanted) == 600
    assert [run_import(other, early), run_import(other, late)] == [0, 0]
    assert "200 events were stored already and count once" in capsys.readouterr().out
    assert profiles(other) == wanted
    assert run_import(other, whole) == 0
    told = capsys.readouterr().out
    assert "profiles  0 users gained 0 events" in told
    assert "600 events were stored already" in told
    assert profiles(other) == wanted


@pytest.mark.parametrize(("where", "count"), [("between", 2), ("within", 4)])
def test_an_import_that_was_killed_and_is_started_again_ends_as_if_nothing_had_been(
    states: tuple[str, str], where: str, count: int, tmp_path: Path
) -> None:
    one, other = states
    whole = write(tmp_path / "whole.csv", rows(0, 300))
    command = ["import", "--state", one, "--events", whole]
    died = subprocess.run(
        [sys.executable, "-m", "tests.commands.dying_import", where, str(count), *command],
        cwd=ROOT,
        capture_output=True,
        timeout=HANG_GUARD_S,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert 0 < sum(profile.event_count for profile in profiles(one)) < 300
    assert [run_import(one, whole), run_import(other, whole)] == [0, 0]
    assert profiles(one) == profiles(other)


def test_an_import_into_redis_removes_nothing_of_a_log_that_is_kept_for_longer(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """It is not told how long: servers may keep it for weeks. Trimming goes by the clock of Redis, in hundreds."""
    now_ms = time.time_ns() // 1_000_000
    log = partition_of(DEFAULT_TENANT, "s").log
    path = write(tmp_path / "e.csv", [f"view,u1,s,i,{now_ms - HOUR_MS},1,1\n"])
    with redis_server.client() as client:
        client.flushall()
        for number in range(300):
            client.xadd(log, {"seq": "1", "at": "1", "body": ""}, id=f"{now_ms - 20 * DAY_MS}-{number}")
        assert run_import(redis_server.url, path) == 0
        assert client.xlen(log) == 301
        assert client.pttl(log) > 20 * DAY_MS


def test_bad_rows_end_an_import_before_it_begins_or_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = f"embedded:{tmp_path / 'state.db'}"
    path = write(tmp_path / "events.csv", [*rows(0, 50), "stare,u1,s,i,1700000000,1,1\n", "view,u1,s,i,noon,1,1\n"])
    assert run_import(state, path) == 2
    complaint = capsys.readouterr().err
    assert f"recserv import: {path}, row 52, column event_time" in complaint
    assert not (tmp_path / "state.db").exists()
    assert cli.main(["import", "--state", state, "--events", path, "--skip-bad-rows"]) == 0
    told = capsys.readouterr().out
    assert "2 bad" in told
    assert "1 in events.csv, column event_time: " in told
    assert sum(profile.event_count for profile in profiles(state)) == 50


def test_import_prints_the_rows_that_it_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old_ms = BEGIN_MS - 400 * DAY_MS
    lines = [
        f"purchase,u1,s,i1,{BEGIN_MS},1,1\n",
        f"purchase,u1,s,i1,{BEGIN_MS},-1,1\n",
        f"purchase,,s,i1,{BEGIN_MS},1,1\n",
        f"purchase,u1,s,i2,{BEGIN_MS + 7 * DAY_MS},1,1\n",
        f"purchase,u1,s,i3,{old_ms},1,1\n",
        f"purchase,u2,s,i3,{old_ms},1,1\n",
    ]
    state = f"embedded:{tmp_path / 'state.db'}"
    assert run_import(state, write(tmp_path / "e.csv", lines), before=str(BEGIN_MS + DAY_MS)) == 0
    told = capsys.readouterr().out
    assert "left out  1 returns; 1 without a user; 1 not before --before" in told
    assert "2 events are older than profiles are kept" in told
    assert [p.item_id for p in profiles(state)[1].purchases] == ["i1"]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"state": ""}, "--state is needed"),
        ({"state": "mysql://:hunter2@host"}, "neither embedded:PATH nor redis"),
        ({"state": "env:NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE"),
        ({"id-retention-hours": "soon"}, "--id-retention-hours"),
        ({"before": "noon"}, "--before noon"),
        ({"column": "colour=x"}, "--column colour: no such column"),
        ({"column": "user_id=who"}, "--column user_id=COLUMN says who"),
        ({"column": "event_time=when"}, "an import needs to know when"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(
    given: dict[str, str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("RECSERV_STATE", raising=False)
    options = {"state": f"embedded:{tmp_path / 'state.db'}", **given}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    assert cli.main(["import", "--events", write(tmp_path / "e.csv", rows(0, 5)), *words]) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert "hunter2" not in told
    assert not (tmp_path / "state.db").exists()


def test_a_state_file_that_a_server_holds_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "state.db"
    events = write(tmp_path / "e.csv", rows(0, 5))

    async def hold() -> int:
        store = EmbeddedStore(path)
        await store.open()
        try:
            return await asyncio.to_thread(run_import, f"embedded:{path}", events)
        finally:
            await store.close()

    assert asyncio.run(hold()) == 2
    assert f"state file {path} is held by a server (process " in capsys.readouterr().err


def test_a_redis_that_is_not_there_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_import("redis://127.0.0.1:1/0", write(tmp_path / "e.csv", rows(0, 5))) == 1
    assert "recserv import: " in capsys.readouterr().err


def test_rows_that_a_rule_leaves_out_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["import", "--events", write(tmp_path / "e.csv", rows(0, 30)), "--state", f"embedded:{tmp_path / 's.db'}"]
    assert cli.main([*given, "--leave-out", "quantity = 1"]) == 0
    assert "10 if quantity = 1" in capsys.readouterr().out
    assert cli.main([*given, "--leave-out", "quantity < 9"]) == 2
    assert "30 if quantity < 9" in capsys.readouterr().err
