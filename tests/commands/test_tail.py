from __future__ import annotations

from typing import Any

import pytest

from recserv import cli
from recserv.stores.redis_router import RedisTimeouts

SECRET = "redis://:hunter2@127.0.0.1:1"


@pytest.fixture
def timeouts() -> list[RedisTimeouts]:
    """Those that were tailed with."""
    return []


@pytest.fixture
def tailed(monkeypatch: pytest.MonkeyPatch, timeouts: list[RedisTimeouts]) -> list[str]:
    """The URLs that were tailed."""
    urls: list[str] = []

    async def tail(url: str, *arguments: Any, **options: Any) -> None:
        urls.append(url)
        timeouts.append(options["timeouts"])

    monkeypatch.setattr("recserv.app.tail.tail", tail)
    monkeypatch.setenv("STATE_URL", SECRET)
    for name in ("STATE", "REDIS_CONNECT_TIMEOUT_MS", "REDIS_WRITE_TIMEOUT_MS"):
        monkeypatch.delenv(f"RECSERV_{name}", raising=False)
    return urls


def test_a_state_may_be_the_name_of_a_variable_that_holds_it(
    tailed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["tail", "--group", "g", "--state", "env:STATE_URL"]) == 0
    monkeypatch.setenv("RECSERV_STATE", "env:STATE_URL")
    assert cli.main(["tail", "--group", "g"]) == 0
    assert tailed == [SECRET, SECRET]


@pytest.mark.parametrize(
    ("state", "complaint"),
    [("env:NO_SUCH_VARIABLE", "NO_SUCH_VARIABLE"), ("embedded:x.sqlite", "only a Redis state"), ("", "only a Redis")],
)
def test_tail_refuses_a_state_that_is_not_redis(
    tailed: list[str], capsys: pytest.CaptureFixture[str], state: str, complaint: str
) -> None:
    assert cli.main(["tail", "--group", "g", "--state", state]) == 2
    assert complaint in capsys.readouterr().err
    assert tailed == []


def test_the_stores_timeouts_are_settings_of_it_too(
    tailed: list[str], timeouts: list[RedisTimeouts], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["tail", "--group", "g", "--state", SECRET]
    assert cli.main(command) == 0
    monkeypatch.setenv("RECSERV_REDIS_CONNECT_TIMEOUT_MS", "700")
    monkeypatch.setenv("RECSERV_REDIS_WRITE_TIMEOUT_MS", "900")
    assert cli.main(command) == 0
    assert cli.main([*command, "--redis-connect-timeout-ms", "40", "--redis-write-timeout-ms", "20000"]) == 0
    assert [(told.connect_s, told.write_s) for told in timeouts] == [(0.15, 5.0), (0.7, 0.9), (0.04, 20.0)]


def test_a_timeout_that_is_none_is_refused_like_a_servers(
    tailed: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSERV_REDIS_WRITE_TIMEOUT_MS", "soon")
    assert cli.main(["tail", "--group", "g", "--state", SECRET, "--redis-connect-timeout-ms", "0"]) == 2
    told = capsys.readouterr().err
    assert "--redis-connect-timeout-ms: " in told
    assert "RECSERV_REDIS_WRITE_TIMEOUT_MS: 'soon'" in told
    assert tailed == []
