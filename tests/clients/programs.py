"""Builds the programs of this folder by the commands that its README shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.project_files import ROOT
from tests.tools import program

HERE = Path(__file__).parent
SHOWN_TARGET = "127.0.0.1:50051"
BUILD_S_MAX = 900
RUN_S_MAX = 120
TOOLS = {
    "go": {"go": "Go 1.26 or newer"},
    "java": {"mvn": "Maven and a JDK (apt-get install maven)", "java": "a JDK of 17 or newer"},
    "typescript": {"node": "Node 20 or newer", "npm": "npm"},
    "python": {"python3": "python3-venv"},
}


class Program(NamedTuple):
    """`start`: which of the README's lines that start a program. `replaced`: (what the README names, what instead)."""

    language: str
    start: int = 0
    replaced: tuple[str, str] = ("", "")


PROGRAMS = {
    "go": Program("go"),
    "java": Program("java"),
    "ts-proto": Program("typescript", 0),
    "proto-loader": Program("typescript", 1),
    "python-newest": Program("python"),
    "python-protobuf4": Program("python", replaced=("requirements.txt", "requirements-protobuf4.txt")),
}


class Commands(NamedTuple):
    """Of a language, each a line: what builds its programs, and what starts each of them."""

    build: list[str]
    start: list[str]


def shown_commands(language: str) -> Commands:
    text = (HERE / "README.md").read_text()
    found = re.search(rf"^## {language}\n.*?^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert found is not None, f"README.md has no commands for {language}"
    lines = found.group(1).replace("\\\n", " ").splitlines()
    return Commands(
        [line for line in lines if SHOWN_TARGET not in line], [line for line in lines if SHOWN_TARGET in line]
    )


class Built:
    """A folder in which a program of it was built."""

    def __init__(self, folder: Path, start: str, environment: dict[str, str]):
        self._folder, self._start, self._environment = folder, start, environment

    def run(self, target: str) -> list[dict[str, Any]]:
        """The steps that it prints."""
        command = self._start.replace(SHOWN_TARGET, target)
        done = _shell(command, self._folder, self._environment, RUN_S_MAX)
        return [json.loads(line) for line in done.splitlines()]


class Workshop:
    """Builds each folder once. Whatever the tools download or install stays below `folder`, or below the folder that
    RECSERV_CLIENTS_CACHE names, for those who run this often.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._environment = _environment(folder, Path(os.environ.get("RECSERV_CLIENTS_CACHE") or folder / "cache"))
        self._built: set[Path] = set()

    def built(self, name: str) -> Built:
        """Raises AssertionError for a tool that is missing, and for what does not build."""
        language, start, (shown, instead) = PROGRAMS[name]
        for tool, package in TOOLS[language].items():
            program(tool, package)
        folder = self._folder / f"{language}{instead}"
        commands = shown_commands(language)
        if folder not in self._built:
            shutil.copytree(HERE / language, folder, ignore=shutil.ignore_patterns(*_LEFT_BY_BUILDS))
            shutil.copytree(ROOT / "protos", folder / "protos")
            build = "\n".join(commands.build)
            assert shown in build
            _shell(build.replace(shown, instead) if shown else build, folder, self._environment, BUILD_S_MAX)
            self._built.add(folder)
        return Built(folder, commands.start[start], self._environment)


_LEFT_BY_BUILDS = ("gen", "bin", "dist", "target", "node_modules", ".venv", "protos", "__pycache__")


def _environment(folder: Path, cache: Path) -> dict[str, str]:
    tools = folder / "tools"
    tools.mkdir()
    protoc = tools / "protoc"
    protoc.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m grpc_tools.protoc "$@"\n')
    protoc.chmod(0o755)
    left = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_CONSTRAINT", "PYTEST_ADDOPTS"}
    return {
        **{name: value for name, value in os.environ.items() if name not in left},
        "PATH": os.pathsep.join([str(tools), os.environ.get("PATH", os.defpath)]),
        "GOPATH": str(cache / "go"),
        "GOCACHE": str(cache / "go-build"),
        # Else nobody could delete what Go has downloaded.
        "GOFLAGS": "-modcacherw -buildvcs=false",
        "MAVEN_OPTS": f"-Dmaven.repo.local={cache / 'maven'}",
        "npm_config_cache": str(cache / "npm"),
        "PIP_CACHE_DIR": str(cache / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def _shell(commands: str, folder: Path, environment: dict[str, str], s_max: float) -> str:
    done = subprocess.run(
        ["sh", "-e", "-c", commands],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=s_max,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
