"""What a newcomer copies from tests/clients is said once, pinned, and names no place to get it from. `.ci/long clients`
builds and runs it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.clients.programs import HERE, PROGRAMS, TOOLS, Workshop, shown_commands
from tests.project_files import ROOT

LANGUAGES = sorted(TOOLS)


def _protoc_arguments(text: str) -> set[str]:
    """Of every protoc that a text shows."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    found = [re.search(r"\bprotoc (-I .*?)(?: &&.*)?$", line) for line in lines]
    return {" ".join(one.group(1).split()) for one in found if one is not None}


def test_every_language_has_a_folder_commands_and_a_program() -> None:
    assert sorted({program.language for program in PROGRAMS.values()}) == LANGUAGES
    assert sorted(path.name for path in HERE.iterdir() if path.is_dir() and path.name != "__pycache__") == LANGUAGES
    starts = {(language, number) for language in LANGUAGES for number in range(len(shown_commands(language).start))}
    assert starts == {(program.language, program.start) for program in PROGRAMS.values()}


def test_the_readmes_protoc_commands_are_those_that_are_run() -> None:
    shown, run = ((_protoc_arguments(path.read_text())) for path in (ROOT / "README.md", HERE / "README.md"))
    assert len(run) == 3
    assert run == shown


@pytest.mark.parametrize("name", ["go", "java", "ts-proto"])
def test_a_tool_that_is_missing_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = Workshop(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    tool = next(iter(TOOLS[PROGRAMS[name].language]))
    with pytest.raises(AssertionError, match=f"^{tool} not found: install "):
        workshop.built(name)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-protobuf4.txt"])
def test_what_the_python_program_needs_is_pinned(name: str) -> None:
    lines = (HERE / "python" / name).read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w-]+==[\d.]+", line)] == []


def test_what_the_typescript_programs_need_is_locked_without_a_registrys_name() -> None:
    folder = HERE / "typescript"
    manifest, lock = (json.loads((folder / name).read_text()) for name in ("package.json", "package-lock.json"))
    wanted = {**manifest["dependencies"], **manifest["devDependencies"]}
    assert [version for version in wanted.values() if not re.fullmatch(r"[\d.]+", version)] == []
    root, *packages = lock["packages"].values()
    assert {**root["dependencies"], **root["devDependencies"]} == wanted
    assert [package for package in packages if "resolved" in package or "integrity" not in package] == []


def test_what_the_java_program_needs_is_pinned() -> None:
    pom = (HERE / "java" / "pom.xml").read_text()
    versions = re.findall(r"<(?:\w+\.)?(?:version|protocVersion)>(.*?)<", pom)
    assert len(versions) > 10
    assert [version for version in versions if not re.fullmatch(r"[\d.]+|\$\{\w+\.version\}", version)] == []


def test_what_the_go_program_needs_is_pinned() -> None:
    required = re.findall(r"^\t(\S+) (v\S+)", (HERE / "go" / "go.mod").read_text(), flags=re.MULTILINE)
    sums = (HERE / "go" / "go.sum").read_text()
    assert {"google.golang.org/grpc", "google.golang.org/protobuf"} < {name for name, _ in required}
    assert [name for name, version in required if f"{name} {version} h1:" not in sums] == []


def test_nothing_that_was_built_is_among_the_files() -> None:
    kinds = {path.suffix for path in HERE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert kinds <= {".py", ".md", ".txt", ".go", ".mod", ".sum", ".java", ".xml", ".ts", ".js", ".json", ""}
    assert not any((HERE / language / "gen").exists() for language in LANGUAGES)


def test_a_command_that_differs_would_be_seen() -> None:
    shown = (
        "protoc -I protos  --go_out=gen \\\n    x.proto && go mod tidy\nPATH=bin protoc -I protos --go_out=gen x.proto"
    )
    assert _protoc_arguments(shown) == {"-I protos --go_out=gen x.proto"}
