"""The client's wheel holds what it needs and nothing of the server. Built here with the newest protoc, without
network; tests/clients/test_wheel.py builds it as it is released, and installs it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.client.examples import WHEEL_README, aimed, readme_examples
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT, imports_of, is_standard

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess

BROUGHT = {
    "grpcio": "grpc",
    "grpcio-status": "grpc_status",
    "googleapis-common-protos": "google.rpc",
    "protobuf": "google.protobuf",
    "msgspec": "msgspec",
}
"""Name of a dependency -> what it lets import."""
LOAD_ALL = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps({name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as an installation has it."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, str(ROOT / ".ci" / "client" / "build.py"), str(out)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=HANG_GUARD_S, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    [file] = out.iterdir()
    assert re.fullmatch(r"recserv_client-[\d.]+-py3-none-any\.whl", file.name)
    with zipfile.ZipFile(file) as packed:
        packed.extractall(out / "installed")
    return out / "installed"


def _metadata(wheel: Path) -> Message:
    [folder] = wheel.glob("*.dist-info")
    return message_from_string((folder / "METADATA").read_text())


def _required(wheel: Path) -> dict[str, str]:
    """Dependency -> its lowest version."""
    required = [entry.partition(">=") for entry in _metadata(wheel).get_all("Requires-Dist", [])]
    return {name: floor for name, _, floor in required}


def _modules(wheel: Path) -> dict[str, Path]:
    sources = {path.relative_to(wheel).with_suffix(""): path for path in wheel.rglob("*.py")}
    return {".".join(place.parts).removesuffix(".__init__"): path for place, path in sources.items()}


def _run(wheel: Path, program: str, *arguments: str) -> str:
    """Runs a program for which the wheel comes before everything else that is installed."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments],
        cwd=wheel,
        env={**inherited, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        timeout=HANG_GUARD_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_says_of_itself_what_the_project_says(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = _metadata(wheel)
    assert said["Name"] == "recserv-client"
    keys = ("Version", "Requires-Python", "License-Expression")
    assert [said[key] for key in keys] == [project[key] for key in ("version", "requires-python", "license")]


def test_it_is_no_newer_than_the_servers_package_asks_for(wheel: Path) -> None:
    server = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    floors = dict(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(server), flags=re.MULTILINE))
    assert [name for name, floor in _required(wheel).items() if _numbers(floor) > _numbers(floors[name])] == []


def _numbers(version: str) -> list[int]:
    return [int(part) for part in f"{version}.0.0".split(".")][:3]


def test_every_import_is_in_it_or_a_dependency_and_every_dependency_is_imported(wheel: Path) -> None:
    modules, brought = _modules(wheel), [BROUGHT[name] for name in _required(wheel)]
    assert {"recserv.client.sync", "recserv.types", "recserv.v1.events_pb2"} < set(modules)
    imported = {module for path in modules.values() for _, module in imports_of(path)}
    foreign = {module for module in imported if not is_standard(module)}
    foreign -= set(modules)
    assert [one for one in sorted(foreign) if not any(f"{one}.".startswith(f"{name}.") for name in brought)] == []
    assert [name for name in brought if not any(f"{one}.".startswith(f"{name}.") for one in foreign)] == []


def test_all_of_it_loads_and_nothing_of_the_server_with_it(wheel: Path) -> None:
    modules = _modules(wheel)
    loaded: dict[str, str] = json.loads(_run(wheel, LOAD_ALL, *modules))
    ours = {name: file for name, file in loaded.items() if name.partition(".")[0] == "recserv"}
    assert ours == {name: str(path) for name, path in modules.items()}
    # gRPC loads what it finds of grpcio-tools and others. It is there with the dependencies alone, too.
    alone = json.loads(_run(wheel, LOAD_ALL, *BROUGHT.values(), "grpc.aio"))
    more = {name.partition(".")[0] for name in set(loaded) - set(alone) if not is_standard(name)}
    assert more <= {"recserv", *(name.partition(".")[0] for name in BROUGHT.values())}


@pytest.mark.parametrize("readme", ["README.md", WHEEL_README])
def test_the_readmes_example_runs_from_it(wheel: Path, readme: str, recserv_server: ServerProcess) -> None:
    [example] = readme_examples(readme)
    printed = _run(wheel, f"{aimed(example, recserv_server.target)}\nimport recserv\nprint(recserv.__file__)")
    assert "item-" in printed
    assert printed.splitlines()[-1] == str(wheel / "recserv" / "__init__.py")
