"""The committed stubs are what protos/ generates, and protos/ is clean. To write them again after a change:

python -m grpc_tools.protoc -Iprotos --python_out=. --pyi_out=. protos/recserv/v1/*.proto
python -m grpc_tools.protoc -Iprotos --grpc_python_out=. protos/recserv/v1/*_service.proto
python -m tests.stubs

google/rpc is not generated: the package googleapis-common-protos brings it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2, status_pb2

from recserv import v1 as pb
from tests.patience import HANG_GUARD_S
from tests.project_files import GENERATED
from tests.stubs import COMMENTS, CONTRACT, PROTOS, comments_text, contract_comments, descriptor_set, generate_stubs
from tests.tools import buf


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [buf(), "lint", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_GUARD_S, check=False)


def test_the_committed_stubs_are_what_the_protos_generate(tmp_path: Path) -> None:
    generate_stubs(tmp_path)
    generated = {path.name: path.read_text() for path in (tmp_path / "recserv" / "v1").iterdir()}
    committed = {
        path.name: path.read_text()
        for path in GENERATED.iterdir()
        if path.suffix in {".py", ".pyi"} and path.name != "__init__.py"
    }
    assert sorted(committed) == sorted(generated)
    assert [name for name in sorted(generated) if generated[name] != committed[name]] == []


def test_the_committed_comments_are_those_of_the_protos(tmp_path: Path) -> None:
    comments = contract_comments(tmp_path)
    assert COMMENTS.read_text() == comments_text(comments)
    assert comments["recserv.v1.GetContextResponse.recent_item_ids"] == "Newest first, at most 20."
    assert comments["recserv.v1.EVENT_TYPE_VIEW"] == "The page of an item was looked at."


def test_the_contract_passes_buf_lint() -> None:
    lint = _lint(PROTOS)
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")


FAULTY = {
    "ENUM_ZERO_VALUE_SUFFIX": "// A colour.\nenum Colour {\n  // Red.\n  COLOUR_RED = 0;\n}\n",
    "COMMENT_FIELD": "// A thing.\nmessage Thing {\n  string name = 1;\n}\n",
}


@pytest.mark.parametrize("rule", FAULTY)
def test_buf_lint_would_notice_a_fault(tmp_path: Path, rule: str) -> None:
    (tmp_path / "buf.yaml").write_text((PROTOS / "buf.yaml").read_text())
    (tmp_path / "recserv" / "v1").mkdir(parents=True)
    bad = tmp_path / "recserv" / "v1" / "bad.proto"
    bad.write_text(f'syntax = "proto3";\npackage recserv.v1;\n{FAULTY[rule]}')
    lint = subprocess.run(
        [buf(), "lint", "--error-format=json", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=HANG_GUARD_S,
        check=False,
    )
    assert lint.returncode != 0
    assert f'"type":"{rule}"' in lint.stdout


def _top_level_names() -> set[str]:
    """Of all messages, enums and values of enums in the contract's files."""
    names = set()
    for path in CONTRACT:
        file = sys.modules[f"recserv.v1.{path.stem}_pb2"].DESCRIPTOR
        names |= {*file.message_types_by_name, *file.enum_types_by_name}
        names |= {value for enum in file.enum_types_by_name.values() for value in enum.values_by_name}
    return names


def test_every_name_of_the_contract_is_imported_from_one_place() -> None:
    assert _top_level_names() - set(vars(pb)) == set()
    assert pb.RecommendationServiceStub is not None
    with pytest.raises(AttributeError, match="NoSuchMessage"):
        pb.NoSuchMessage  # type: ignore[attr-defined]  # noqa: B018


def test_messages_alone_do_not_load_grpc() -> None:
    program = "import sys; from recserv.v1 import Event; assert 'grpc' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], timeout=HANG_GUARD_S, check=True)


def _fields(file: descriptor_pb2.FileDescriptorProto) -> set[tuple[str, str, int, int]]:
    """(message, field, number, type) of a file; messages inside messages have the outer one's name in front."""
    found, waiting = set(), [(message.name, message) for message in file.message_type]
    while waiting:
        name, message = waiting.pop()
        found |= {(name, field.name, field.number, field.type) for field in message.field}
        waiting += [(f"{name}.{inner.name}", inner) for inner in message.nested_type]
    return found


def test_what_is_shipped_of_google_rpc_is_what_python_loads(tmp_path: Path) -> None:
    """Not to the letter: its package may be newer and know more."""
    shipped = descriptor_set(PROTOS, tmp_path / "shipped.pb").file
    ours = {file.name: _fields(file) for file in shipped if file.package == "google.rpc"}
    assert sorted(ours) == ["google/rpc/error_details.proto", "google/rpc/status.proto"]
    for module in (status_pb2, error_details_pb2):
        theirs = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(theirs)
        assert ours[theirs.name] - _fields(theirs) == set()


def test_google_rpc_is_shipped_with_its_licence() -> None:
    for path in (PROTOS / "google" / "rpc").iterdir():
        assert "Licensed under the Apache License, Version 2.0" in path.read_text()
