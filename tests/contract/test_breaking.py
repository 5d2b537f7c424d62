"""Nothing that was released changes under those who generated code from it.

`released.binpb` is the contract of the last release (until there is one: as it was first published), as buf reads it.
It is written anew when a release is made, in the commit of the release and never to silence this test:

buf build protos --exclude-source-info -o tests/contract/released.binpb
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.patience import HANG_GUARD_S
from tests.stubs import PROTOS
from tests.tools import buf

RELEASED = Path(__file__).parent / "released.binpb"


def broken_rules(protos: Path) -> set[str]:
    """The rules of buf that `protos` breaks against the last release."""
    command = [buf(), "breaking", str(protos), "--against", str(RELEASED), "--error-format=json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_GUARD_S, check=False)
    assert done.returncode in (0, 100), done.stderr
    rules = {json.loads(line)["type"] for line in done.stdout.splitlines()}
    assert bool(rules) == bool(done.returncode)
    return rules


def changed(folder: Path, name: str, old: str, new: str) -> Path:
    """A copy of protos/ with one change in one file."""
    protos = folder / "protos"
    shutil.copytree(PROTOS, protos)
    path = protos / "recserv" / "v1" / f"{name}.proto"
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} is in {path.name} {text.count(old)} times"
    path.write_text(text.replace(old, new))
    return protos


def test_the_contract_breaks_nothing_that_was_released() -> None:
    assert broken_rules(PROTOS) == set()


BREAKING = {
    "a field with another number": (
        *["items", "string title = 2;", "string title = 22;"],
        {"FIELD_NO_DELETE"},
    ),
    "a field of another type": (
        *["events", "int32 quantity = 6;", "int64 quantity = 6;"],
        {"FIELD_SAME_TYPE"},
    ),
    "a field with another name": (
        *["items", "string brand = 4;", "string maker = 4;"],
        {"FIELD_SAME_JSON_NAME", "FIELD_SAME_NAME"},
    ),
    "a field without its presence": (
        *["items", "optional bool available = 9;", "bool available = 9;"],
        {"FIELD_SAME_CARDINALITY"},
    ),
    "a value with another number": (
        *["recommendation", "PRIORITY_HIGH = 3;", "PRIORITY_HIGH = 4;"],
        {"ENUM_VALUE_NO_DELETE"},
    ),
    "a value with another name": (
        *["explanations", "TEMPLATE_CAUSE_EXPIRED = 6;", "TEMPLATE_CAUSE_LATE = 6;"],
        {"ENUM_VALUE_SAME_NAME"},
    ),
    "a method with another answer": (
        *["recommendation_service", "returns (GetContextResponse)", "returns (GetContextRequest)"],
        {"RPC_SAME_RESPONSE_TYPE"},
    ),
    "a method that may be a GET": (
        "recommendation_service",
        "returns (RecommendResponse) {\n    option idempotency_level = IDEMPOTENT;",
        "returns (RecommendResponse) {\n    option idempotency_level = NO_SIDE_EFFECTS;",
        {"RPC_SAME_IDEMPOTENCY_LEVEL"},
    ),
    "another package in Go": (
        *["items", 'go_package = "recserv/v1;recservv1"', 'go_package = "recserv/v1;recserv"'],
        {"FILE_SAME_GO_PACKAGE"},
    ),
    "another class in Java": (
        *["items", '"ItemsProto"', '"Items"'],
        {"FILE_SAME_JAVA_OUTER_CLASSNAME"},
    ),
}


@pytest.mark.parametrize(("name", "old", "new", "rules"), BREAKING.values(), ids=BREAKING)
def test_what_would_break_a_client_is_noticed(tmp_path: Path, name: str, old: str, new: str, rules: set[str]) -> None:
    assert broken_rules(changed(tmp_path, name, old, new)) == rules


def test_a_message_that_moves_to_another_file_is_noticed(tmp_path: Path) -> None:
    """Python, C++ and TypeScript import by file."""
    protos = changed(tmp_path, "context", "message CategoryWeight {", "message CategoryShare {")
    path = protos / "recserv" / "v1" / "context.proto"
    path.write_text(path.read_text().replace("repeated CategoryWeight", "repeated CategoryShare"))
    with (protos / "recserv" / "v1" / "items.proto").open("a") as items:
        items.write("message CategoryWeight {\n  string category = 1;\n  double weight = 2;\n}\n")
    assert "MESSAGE_NO_DELETE" in broken_rules(protos)


ADDED = {
    "a field": ("items", "string title = 2;", "string title = 2;\n  string subtitle = 99;"),
    "a value": ("events", "EVENT_TYPE_DISLIKE = 9;", "EVENT_TYPE_DISLIKE = 9;\n  EVENT_TYPE_SHARE = 99;"),
    "a method": (
        "recommendation_service",
        "service RecommendationService {",
        "service RecommendationService {\n  rpc Later(RecommendRequest) returns (stream RecommendResponse);",
    ),
}


@pytest.mark.parametrize(("name", "old", "new"), ADDED.values(), ids=ADDED)
def test_an_added_field_value_or_rpc_is_not_reported_as_breaking(tmp_path: Path, name: str, old: str, new: str) -> None:
    assert broken_rules(changed(tmp_path, name, old, new)) == set()
