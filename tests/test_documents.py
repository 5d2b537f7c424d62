"""ARCHITECTURE and its neighbours in .github, as far as code can check them: names, rules and versions as they are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from recserv.server.call import WORKER_KEY
from recserv.server.servicer import DEGRADED_KEY
from tests import test_architecture as layout
from tests.project_files import ROOT

FOLDER = ROOT / ".github"
ARCHITECTURE = (FOLDER / "ARCHITECTURE.md").read_text()
GROUPS = {name: getattr(layout, name.upper()) for name in ("ground", "base", "kernels", "protocols")}
OWN_WORDS = [
    *["Trace", "ReasonBuilder", "ContextAccumulator", "source_mask", "requested", "contributions", "backfill"],
    *["ConcurrencyLimiter", "CallInterceptor", "timeline", "partition", "lease", "reign", "stand-in"],
]


def section(title: str) -> str:
    return ARCHITECTURE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def _written(words: str) -> str:
    """As the map writes it: `base` for what stands in BASE."""
    return " ".join(GROUPS.get(word, word) for word in words.split())


def mapped_rooms() -> dict[str, layout.Room]:
    rows = [line.strip("|").split("|") for line in section("The map").splitlines() if line.startswith("| ")]
    cells = [[cell.strip().replace("\\", "") for cell in row] for row in rows[1:]]
    return {name: layout.room(_written(ours), foreign) for name, _, ours, foreign in cells}


def test_the_map_has_the_rooms_of_the_architecture_test_with_their_imports() -> None:
    assert list(mapped_rooms()) == list(layout.ROOMS)
    for name, mapped in mapped_rooms().items():
        assert mapped == layout.ROOMS[name], f"the row {name} of the map"


def test_the_maps_short_names_are_those_of_the_architecture_test() -> None:
    said = dict(re.findall(r"^- \*\*(\w+)\*\*: ([^(\n]+)", section("The map"), flags=re.MULTILINE))
    assert {name: _written(names.replace(",", "")).split() for name, names in said.items()} == {
        name: names.split() for name, names in GROUPS.items()
    }


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_every_file_that_is_named_exists(name: str) -> None:
    text = (FOLDER / name).read_text()
    named = set(re.findall(r"(?<![\w/])(?:recserv|tests|protos|ext|\.github|\.ci)/[\w./-]*\w", text))
    linked = set(re.findall(r"\]\((?!#|https?:)([^)#]+)", text))
    assert sorted(path for path in named if not (ROOT / path).exists()) == []
    assert sorted(path for path in linked if not (FOLDER / path).exists()) == []


def test_every_link_within_architecture_has_its_heading() -> None:
    headings = {line.lstrip("# ").lower().replace(" ", "-") for line in ARCHITECTURE.splitlines() if line[:1] == "#"}
    assert sorted(set(re.findall(r"\]\(#([^)]+)\)", ARCHITECTURE)) - headings) == []


def test_no_document_links_to_a_line_number() -> None:
    for path in FOLDER.glob("*.md"):
        assert re.findall(r"\.(?:py|pyx|md)(?:#L|:)\d+", path.read_text()) == [], path.name


def test_every_decision_says_why_and_what_it_costs() -> None:
    blocks = re.split(r"\n(?=\*\*)", section("Design decisions"))[1:]
    assert len(blocks) > 25
    for block in blocks:
        parts = re.findall(r"^(?:\*\*|\*Why:\*|\*Cost:\*)", block, flags=re.MULTILINE)
        assert parts == ["**", "*Why:*", "*Cost:*"], block


def _terms() -> list[str]:
    return re.findall(r"^- \*\*(.+?)\*\*: \S", section("Glossary"), flags=re.MULTILINE)


def test_the_glossary_is_in_order_and_has_each_word_once() -> None:
    terms = [re.sub("[^a-z]", "", term.casefold()) for term in _terms()]
    assert len(terms) == len(re.findall(r"^- ", section("Glossary"), flags=re.MULTILINE))
    assert terms == sorted(set(terms))


@pytest.mark.parametrize("word", OWN_WORDS)
def test_the_glossary_has_the_codes_own_words(word: str) -> None:
    assert word in _terms()


def _pinned(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w-]+)==([\w.]+)$", text, flags=re.MULTILINE))


CONSTRAINTS = _pinned((ROOT / ".ci" / "constraints.txt").read_text())


def test_pre_commit_has_ruff_and_mypy_in_the_versions_of_the_gate() -> None:
    [local] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    wanted = {hook["id"]: _pinned("\n".join(hook["additional_dependencies"])) for hook in local["hooks"]}
    assert {name: set(hook) & {"ruff", "mypy"} for name, hook in wanted.items()} == {
        "ruff-check": {"ruff"},
        "ruff-format": {"ruff"},
        "mypy": {"mypy"},
    }
    pinned = {name: version for hook in wanted.values() for name, version in hook.items()}
    assert sum(len(hook["additional_dependencies"]) for hook in local["hooks"]) == sum(map(len, wanted.values()))
    assert pinned == {name: CONSTRAINTS.get(name) for name in pinned}


def test_the_workflow_runs_the_gate_and_may_only_read() -> None:
    workflow = yaml.safe_load((FOLDER / "workflows" / "gate.yml").read_text())
    [job] = workflow["jobs"].values()
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in job
    assert workflow["concurrency"]["group"]
    assert job["timeout-minutes"] <= 60
    assert any(step.get("run", "").endswith(" .ci/run") for step in job["steps"])
    [python] = [step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
    assert python == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].lstrip(">=")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("ISSUE_TEMPLATE/[!c]*.yml")), ids=lambda path: path.name)
def test_an_issue_template_is_a_form_with_labelled_fields(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert form["name"]
    assert form["description"]
    fields = [field["id"] for field in form["body"]]
    assert len(set(fields)) == len(fields)
    assert all(field["type"] == "textarea" and field["attributes"]["label"] for field in form["body"])


def test_a_bug_report_asks_for_what_a_maintainer_needs() -> None:
    text = (FOLDER / "ISSUE_TEMPLATE" / "bug.yml").read_text()
    for asked in ("recserv --version", "Command", "`degraded_reasons`", "trailing metadata", "Logs"):
        assert asked in text
    named = re.findall(r"`(x-recserv-[a-z-]+|x-request-id)`", text.partition("the trailing metadata")[2])
    assert set(named) == {WORKER_KEY, DEGRADED_KEY}, "what a server sends there"


def test_the_changelog_keeps_its_form() -> None:
    text = (FOLDER / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert [said for said in versions[1:] if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", said)] == []
    kinds = set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert re.findall(r"\b[0-9a-f]{7,40}\b", text) == [], "no hashes of commits"


def test_the_newest_version_of_the_changelog_is_the_packages() -> None:
    released = re.findall(r"^## \[(\d[\d.]*)\]", (FOLDER / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert not released or released[0] == version
