"""What the README says and code can check: names that exist, defaults, limits and numbers as they are."""

from __future__ import annotations

import argparse
import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from recserv import cli
from recserv import v1 as pb
from recserv.commands import serve
from recserv.config import KEYS, Settings
from recserv.resilience.limiter import _BOUNDS
from recserv.server.assembly import ServerLimits
from recserv.types import Priority
from tests.project_files import ROOT, package_sources

README = (ROOT / "README.md").read_text()
PACKAGE = "\n".join((ROOT / path).read_text() for path in package_sources())
DEFAULTS = Settings(model="")
PYTEST_FLAGS = {"--full", "--fault-s", "--chaos-seed"}
FOREIGN_FLAGS = {
    *["--protocol", "--http2-prior-knowledge", "--list-methods", "--fix"],
    # The beginnings of protoc's, which have an underscore.
    *["--python", "--pyi", "--grpc", "--go", "--go-grpc", "--ts", "--plugin"],
}
LIMITS = sorted(set(ServerLimits.__struct_fields__) & set(KEYS) - {"lame_duck_ms", "connection_age_ms"})
"""Not those that a server without settings has no use for."""
SUFFIXES = ("_total", "_bucket", "_sum", "_count")


def parsers() -> dict[str, argparse.ArgumentParser]:
    subparsers: Any = argparse.ArgumentParser().add_subparsers()
    for name in cli.COMMANDS:
        importlib.import_module(f"recserv.commands.{name}").register(subparsers)
    found: dict[str, argparse.ArgumentParser] = subparsers.choices
    return found


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings}


def shown(value: object) -> str:
    """As a person writes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def rows_below(header: str) -> list[list[str]]:
    """The cells of the table whose header line is this one."""
    lines = README.splitlines()
    first = lines.index(header) + 2
    count = next(number for number, line in enumerate(lines[first:]) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[first : first + count]]


def test_the_table_of_settings_is_the_settings_with_their_defaults_and_their_help() -> None:
    rows = {
        flag.strip("`"): (default.strip("`"), text) for flag, default, text in rows_below("| setting | default | |")
    }
    assert list(rows) == ["--" + key.replace("_", "-") for key in KEYS]
    for key in KEYS:
        default, text = rows["--" + key.replace("_", "-")]
        assert default == shown(getattr(DEFAULTS, key))
        assert text.startswith(re.sub(r" \([^()]*\)$", "", serve._FLAGS[key][1]))


@pytest.mark.parametrize("key", [key for key in KEYS if key not in ("model", "log_salt")])
def test_the_help_names_the_default(key: str) -> None:
    assert serve._FLAGS[key][1].endswith(f"({shown(getattr(DEFAULTS, key))})")


@pytest.mark.parametrize(
    "field", sorted(set(ServerLimits.__struct_fields__) & set(KEYS) - {"lame_duck_ms", "connection_age_ms"})
)
def test_a_server_made_without_settings_has_their_limits(field: str) -> None:
    assert getattr(ServerLimits(), field) == getattr(DEFAULTS, field)


def test_a_setting_that_is_named_with_a_number_is_named_with_its_default() -> None:
    stated = re.findall(r"`(?:--)?([a-z]+(?:[_-][a-z]+)+)`(?: \(|, )(\d[\d,]*)(?![\d,]* s\b)", README)
    found = [(name.replace("-", "_"), int(number.replace(",", ""))) for name, number in stated]
    assert {"recommend_budget_ms", "lame_duck_ms", "max_waiting_calls"} <= {name for name, _ in found}
    assert [(name, number) for name, number in found if getattr(DEFAULTS, name) != number] == []


def test_every_flag_exists() -> None:
    known = set().union(*map(flags_of, parsers().values())) | {"--version"} | PYTEST_FLAGS | FOREIGN_FLAGS
    assert sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", README)) - known) == []


def test_every_command_line_is_one_that_its_command_takes() -> None:
    found, commands = [], parsers()
    for line in re.findall(r"^recserv .*$", README, flags=re.MULTILINE):
        _, name, *words = line.partition("#")[0].split()
        assert name in commands, line
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        found += [f"{line}: {flag}" for flag in sorted(given - flags_of(commands[name]))]
    assert found == []


def test_every_command_that_is_named_exists() -> None:
    # "recserv listening on" is what a server prints.
    named = set(re.findall(r"`recserv ([a-z]+)(?! on\b)\b", README))
    assert sorted(named - set(cli.COMMANDS)) == []


def test_every_metric_exists() -> None:
    found = []
    for name in set(re.findall(r"\brecserv_[a-z_]+[a-z]\b", README)):
        bare = next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
        if f'"{bare}"' not in PACKAGE and f'"{name}"' not in PACKAGE:
            found.append(name)
    assert found == []


def test_every_file_and_test_that_is_named_exists() -> None:
    named = set(re.findall(r"(?:recserv|tests|protos|ext|deploy|\.github)/[\w./-]*\w", README))
    places = (ROOT, ROOT / "protos")
    assert sorted(path for path in named if not any((place / path).exists() for place in places)) == []


def test_every_cause_of_a_degraded_answer_is_explained_and_named_as_in_the_contract() -> None:
    rows = rows_below("| lost | answers instead | label |")
    labels = {label for row in rows for label in re.findall(r"[A-Z]+(?:_[A-Z]+)*", row[2])}
    reasons = {name.removeprefix("DEGRADED_REASON_") for name in pb.DegradedReason.keys()}  # noqa: SIM118
    assert labels == reasons - {"UNSPECIFIED"}


def test_the_shares_of_overload_are_the_limiters() -> None:
    rows = {row[0]: row[1:3] for row in rows_below("| priority | full answer up to | popular items up to | then |")}
    assert set(rows) == {"LOW", "NORMAL", "HIGH"}
    for name, (full, popular) in rows.items():
        assert (float(full.partition(",")[0]), float(popular)) == _BOUNDS[Priority[name]]


def test_the_example_of_llm_settings_is_one(tmp_path: Path) -> None:
    from recserv.config import load_settings

    [block] = [text for text in re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL) if "[llm]" in text]
    assert tomllib.loads(block)
    path = tmp_path / "recserv.toml"
    path.write_text(block)
    assert load_settings({"model": "m"}, {"LLM_API_KEY": "k"}, str(path)).llm is not None
