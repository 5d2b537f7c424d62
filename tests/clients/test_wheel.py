"""The client's wheel as it is released: installed where nothing else is and no compiler either, and used."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from recserv.client import RecommendationClient
from recserv.types import RecommendQuery, ShopperKey
from tests.client.examples import WHEEL_README, aimed, readme_examples
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT
from tests.tools import program

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess

pytestmark = pytest.mark.clients
INSTALL_S_MAX = 300
COMPILERS = ("cc", "gcc", "g++", "c++", "clang")
ENVIRONMENTS = ("floors", "protobuf 4.25", "newest")
TYPED = """
from recserv.client import Ingested, RecommendationClient
from recserv.types import Event, RecommendQuery
from recserv.v1 import RecommendRequest

def page(client: RecommendationClient, event: Event) -> tuple[list[str], Ingested, str]:
    answer = client.recommend(RecommendQuery(session_id="s"))
    return [result.item_id for result in answer.results], client.ingest(event), RecommendRequest().session_id

def wrong(client: RecommendationClient) -> None:
    client.recommend(RecommendQuery()).no_such_field
"""
"""Its last line is the one mistake."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    built = _run([str(ROOT / ".ci" / "client-wheel"), str(out)], dict(os.environ), INSTALL_S_MAX)
    assert built.returncode == 0, built.stderr
    [file] = out.iterdir()
    return file


class Installed(NamedTuple):
    """An environment that holds the wheel and what it depends on. `what`: one of ENVIRONMENTS."""

    what: str
    python: Path
    environment: dict[str, str]

    def run(self, folder: Path, *arguments: str) -> str:
        done = _run([str(self.python), "-P", *arguments], self.environment, HANG_GUARD_S, folder)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def installed(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    left = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_CONSTRAINT"}
    environment = {name: value for name, value in os.environ.items() if name not in left} | {"PATH": str(programs)}
    assert [name for name in COMPILERS if shutil.which(name, path=environment["PATH"])] == []
    wanted = {"floors": _floors(), "protobuf 4.25": ["protobuf==4.25.*"], "newest": []}[request.param]
    python = programs / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = _run([*pip, str(wheel), *wanted], environment, INSTALL_S_MAX)
    assert done.returncode == 0, done.stderr
    return Installed(request.param, python, environment)


def _floors() -> list[str]:
    """Each dependency in the lowest version that the wheel asks for."""
    text = (ROOT / ".ci" / "client" / "metadata.toml").read_text()
    return [f"{name}=={floor}" for name, floor in re.findall(r'^  "([\w-]+)>=([\d.]+)",$', text, flags=re.MULTILINE)]


def _run(
    command: list[str], environment: dict[str, str], s_max: float, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=s_max, check=False
    )


@pytest.fixture
def client(recserv_server: ServerProcess) -> Iterator[RecommendationClient]:
    with RecommendationClient(recserv_server.target, timeout_s=HANG_GUARD_S) as client:
        yield client


def _is_right(seen: dict[str, Any], client: RecommendationClient) -> None:
    session_id = seen.pop("session")
    answer = client.recommend(RecommendQuery(session_id=session_id, page_size=3))
    item_ids = [result.item_id for result in answer.results]
    assert client.context(ShopperKey(session_id=session_id)).event_count == 3
    assert seen == {
        "ingest": "ACCEPTED",
        "ingest batch": ["OK", "INVALID_ARGUMENT"],
        "stream": "ACCEPTED",
        "recommend": [[item_id, True] for item_id in item_ids],
        "recommend batch": ["OK", "INVALID_ARGUMENT"],
        "context": 3,
        "explanations": 3,
        "watched": sorted(item_ids),
        "bad request": [["page_size", "OUT_OF_RANGE"]],
    }


def test_every_call_of_the_installed_wheel_is_right(
    installed: Installed, recserv_server: ServerProcess, client: RecommendationClient, tmp_path: Path
) -> None:
    caller = str(Path(__file__).parent / "wheel_caller.py")
    seen = json.loads(installed.run(tmp_path, caller, recserv_server.target, str(HANG_GUARD_S)))
    print(f"\n{installed.what}: {seen['versions']}")
    assert Path(seen["from"]).is_relative_to(installed.python.parent.parent)
    if installed.what == "floors":
        assert {f"{name}=={version}" for name, version in seen["versions"].items()} >= set(_floors())
    elif installed.what == "protobuf 4.25":
        assert seen["versions"]["protobuf"].startswith("4.25.")
    _is_right(seen["sync"], client)
    _is_right(seen["async"], client)


def test_a_type_checker_knows_what_the_calls_return(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text(TYPED)
    command = [program("mypy", "mypy"), "--strict", "--python-executable", str(installed.python), "page.py"]
    done = _run(command, {**os.environ, "MYPY_CACHE_DIR": str(tmp_path / "cache")}, INSTALL_S_MAX, tmp_path)
    said = re.findall(r"^page.py:(\d+): error: .*\[(.*)\]$", done.stdout, flags=re.MULTILINE)
    assert said == [(str(len(TYPED.splitlines())), "attr-defined")], done.stdout + done.stderr


@pytest.mark.parametrize("readme", ["README.md", WHEEL_README])
def test_the_readmes_example_runs_on_the_installed_wheel(
    installed: Installed, recserv_server: ServerProcess, tmp_path: Path, readme: str
) -> None:
    [example] = readme_examples(readme)
    assert "item-" in installed.run(tmp_path, "-c", aimed(example, recserv_server.target))
