from __future__ import annotations

from typing import Any

import pytest

from recserv import cli

SECRET = "redis://:hunter2@127.0.0.1:1"


@pytest.fixture
def tailed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that were tailed."""
    urls: list[str] = []

    async def tail(url: str, *arguments: Any, **options: Any) -> None:
        urls.append(url)

    monkeypatch.setattr("recserv.app.tail.tail", tail)
    monkeypatch.setenv("STATE_URL", SECRET)
    monkeypatch.delenv("RECSERV_STATE", raising=False)
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
def test_other_states_are_refused(
    tailed: list[str], capsys: pytest.CaptureFixture[str], state: str, complaint: str
) -> None:
    assert cli.main(["tail", "--group", "g", "--state", state]) == 2
    assert complaint in capsys.readouterr().err
    assert tailed == []
