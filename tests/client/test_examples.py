"""What the package's docstring and the README show works as it stands there, against a real server."""

from __future__ import annotations

import asyncio
import re
import textwrap
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import recserv.client
from recserv import client, types
from recserv.client import ClientOptions
from recserv.types import Event, EventType
from tests.client.examples import aimed, readme_examples
from tests.patience import HANG_GUARD_S

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that name no deadline have one that a slow machine keeps."""
    for module in ("sync", "aio"):
        monkeypatch.setattr(f"recserv.client.{module}.ClientOptions", partial(ClientOptions, timeout_s=HANG_GUARD_S))


def _docstring_examples() -> list[str]:
    """The indented blocks of the docstring."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", recserv.client.__doc__ or "", flags=re.MULTILINE)
    return [textwrap.dedent(block).strip() for block in blocks]


def _run(example: str, target: str) -> dict[str, Any]:
    example = aimed(example, target)
    names: dict[str, Any] = {name: getattr(client, name) for name in client.__all__}
    names |= {name: getattr(types, name) for name in dir(types) if not name.startswith("_")}
    names["events"] = [
        Event(event_id=str(n), event_type=EventType.VIEW, session_id=uuid.uuid4().hex, item_id="item-1")
        for n in range(3)
    ]
    if "async with" not in example:
        exec(compile(example, "example", "exec"), names)
        return names
    body = textwrap.indent(example, "    ")
    exec(compile(f"async def example():\n{body}\n    return locals()\n", "example", "exec"), names)
    shown_locals: dict[str, Any] = asyncio.run(names["example"]())
    return shown_locals


def test_the_docstring_shows_both_clients() -> None:
    examples = _docstring_examples()
    assert [("async with" in example) for example in examples] == [False, True]


@pytest.mark.parametrize("number", [0, 1])
def test_the_docstrings_examples_work(
    number: int, recserv_server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    names = _run(_docstring_examples()[number], recserv_server.target)
    assert "item-" in capsys.readouterr().out
    if number == 1:
        assert all(promise.done() and promise.exception() is None for promise in names["acknowledged"])


def test_the_readmes_examples_work(recserv_server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    examples = readme_examples()
    assert examples
    for example in examples:
        _run(example, recserv_server.target)
        assert "item-" in capsys.readouterr().out
