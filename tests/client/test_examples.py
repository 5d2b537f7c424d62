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
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT

if TYPE_CHECKING:
    from recserv.commands.server_process import ServerProcess

SHOWN_TARGETS = (r'\["10\.0\.0\.1:50051", "10\.0\.0\.2:50051"\]', r'"127\.0\.0\.1:50051"')
SHOWN_TIMEOUT = r"timeout_s=[\d.]+"


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that name no deadline have one that a slow machine keeps."""
    for module in ("sync", "aio"):
        monkeypatch.setattr(f"recserv.client.{module}.ClientOptions", partial(ClientOptions, timeout_s=HANG_GUARD_S))


def _docstring_examples() -> list[str]:
    """The indented blocks of the docstring."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", recserv.client.__doc__ or "", flags=re.MULTILINE)
    return [textwrap.dedent(block).strip() for block in blocks]


def _readme_examples() -> list[str]:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    return [block for block in blocks if "recserv.client" in block]


def _run(example: str, target: str) -> dict[str, Any]:
    for shown in SHOWN_TARGETS:
        example = re.sub(shown, repr(target), example)
    example = re.sub(SHOWN_TIMEOUT, f"timeout_s={HANG_GUARD_S}", example)
    assert target in example
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
    examples = _readme_examples()
    assert examples
    for example in examples:
        _run(example, recserv_server.target)
        assert "item-" in capsys.readouterr().out
