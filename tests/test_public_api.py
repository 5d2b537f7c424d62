"""`recserv.__all__`: what it names, what that costs to import, and that nothing it gives back is left out of it."""

from __future__ import annotations

import ast
import copy
import enum
import inspect
import json
import pickle
import re
import subprocess
import sys
import tomllib
import typing
from pathlib import Path

import msgspec
import pytest

import recserv
import recserv.client
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT

LIGHT = """
import json, sys
before = set(sys.modules)
import recserv
alone = sorted(set(sys.modules) - before)
recserv.Event, recserv.InvalidInput
print(json.dumps({"alone": alone, "after_an_event": sorted(sys.modules)}))
"""


def _imported_for_type_checkers() -> set[str]:
    [block] = [node for node in ast.parse(Path(recserv.__file__).read_text()).body if isinstance(node, ast.If)]
    return {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_every_name_is_there_at_run_time_and_for_a_type_checker() -> None:
    assert {name: getattr(recserv, name) for name in recserv.__all__}
    assert set(recserv.__all__) - {"__version__"} == _imported_for_type_checkers()
    assert set(recserv.__all__) <= set(dir(recserv))


def test_a_name_is_the_same_object_as_in_its_module() -> None:
    for name in set(recserv.__all__) & set(recserv.client.__all__):
        assert getattr(recserv, name) is getattr(recserv.client, name)
    assert recserv.Event is recserv.types.Event
    assert recserv.Overloaded is recserv.errors.Overloaded


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'recserv' has no attribute 'RecommendClient'"):
        recserv.RecommendClient  # type: ignore[attr-defined] # noqa: B018


def test_importing_recserv_loads_nothing_and_an_event_no_grpc() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=HANG_GUARD_S, check=True, cwd=ROOT
    )
    loaded = json.loads(done.stdout)
    ours = [name for name in loaded["alone"] if name.partition(".")[0] not in sys.stdlib_module_names]
    assert ours == ["recserv"]
    assert "recserv.types" in loaded["after_an_event"]
    assert [name for name in ("grpc", "google.protobuf", "recserv.client") if name in loaded["after_an_event"]] == []


def _made(kind: type[recserv.RecservError]) -> recserv.RecservError:
    """With whatever its constructor takes."""
    violations = (recserv.Violation("events[3].value", "is negative", "OUT_OF_RANGE"),)
    if issubclass(kind, recserv.CallFailed):
        return kind("UNAVAILABLE", "nobody answers", violations, 1.5, "STORE_UNAVAILABLE")
    return kind(violations) if kind is recserv.InvalidInput else kind("what is wrong")


PUBLIC_ERRORS = [
    kind
    for kind in (getattr(recserv, name) for name in recserv.__all__)
    if isinstance(kind, type) and issubclass(kind, recserv.RecservError)
]


@pytest.mark.parametrize("kind", [*PUBLIC_ERRORS, *recserv.CallFailed.__subclasses__()], ids=lambda kind: kind.__name__)
def test_an_error_comes_whole_out_of_another_process(kind: type[recserv.RecservError]) -> None:
    """An error that cannot be unpickled breaks a whole pool of processes, and not the one call that raised it."""
    error = _made(kind)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 of our own making
        assert type(again) is kind
        assert (str(again), vars(again)) == (str(error), vars(error))


def test_the_version_is_that_of_whichever_distribution_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    from recserv import version

    def only_the_client(package: str) -> str:
        if package != "recserv-client":
            raise PackageNotFoundError(package)
        return "1.2.3"

    assert recserv.__version__ == version.installed()
    monkeypatch.setattr(version, "version", only_the_client)
    assert version.installed("recserv", "recserv-client") == "1.2.3"
    assert version.installed() == "unknown"


def test_everything_that_the_client_package_exports_is_public() -> None:
    assert sorted(set(recserv.client.__all__) - set(recserv.__all__)) == []


def test_everything_that_the_readmes_programs_import_is_public() -> None:
    named: set[str] = set()
    for path in ("README.md", ".ci/client/README.md"):
        for block in re.findall(r"^```python\n(.*?)^```", (ROOT / path).read_text(), flags=re.DOTALL | re.MULTILINE):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recserv"):
                    named |= {alias.name for alias in node.names}
    assert {"RecommendationClient", "Event"} <= named
    assert sorted(named - set(recserv.__all__)) == []


def _classes_in(hint: object) -> set[type]:
    inner = set().union(*map(_classes_in, typing.get_args(hint)))
    return inner | {hint} if isinstance(hint, type) else inner


def _named_in(cls: type) -> set[type]:
    """The classes in the annotations of a class: of its fields, and of its public methods."""
    found: set[type] = set()
    methods = [member for name, member in inspect.getmembers(cls, inspect.isfunction) if not name.startswith("_")]
    for annotated in [cls, *methods] if issubclass(cls, msgspec.Struct) else methods:
        found = found.union(*map(_classes_in, typing.get_type_hints(annotated).values()))
    return {one for one in found if one.__module__.startswith("recserv.")}


def test_whatever_a_public_class_takes_or_gives_is_public() -> None:
    public = {getattr(recserv, name) for name in recserv.__all__}
    classes = [one for one in public if isinstance(one, type) and not issubclass(one, enum.Enum)]
    left_out = {f"{cls.__name__}: {one.__name__}" for cls in classes for one in _named_in(cls) - public}
    assert sorted(left_out) == []


def test_the_typed_program_is_checked_with_the_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert settings["mypy"]["strict"] is True
    assert "tests.typed_program" in settings["mypy"]["modules"]
    assert "py.typed" in settings["setuptools"]["package-data"]["recserv"]
