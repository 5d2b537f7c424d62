"""Generates Python stubs from protos/ as any caller would."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from google.protobuf import descriptor_pb2

from tests.patience import HANG_GUARD_S

PROTOS = Path(__file__).parent.parent / "protos"
CONTRACT = sorted((PROTOS / "recserv").rglob("*.proto"))
"""The files that are ours; google/rpc beside them is a copy of somebody else's."""
SERVICES = [path for path in CONTRACT if path.stem.endswith("_service")]


def contract_text() -> str:
    """All that the contract says."""
    return "\n".join(path.read_text() for path in CONTRACT)


def generate_stubs(out: Path) -> None:
    """Writes recserv/v1/*_pb2.py and *_pb2.pyi under `out`, and *_pb2_grpc.py of what has services."""
    _protoc(f"--python_out={out}", f"--pyi_out={out}", *CONTRACT)
    _protoc(f"--grpc_python_out={out}", *SERVICES)


def descriptor_set(protos: Path, out: Path) -> descriptor_pb2.FileDescriptorSet:
    """What a folder laid out as protos/ describes, with its comments, by way of a file that is written."""
    _protoc(
        "--include_imports",
        "--include_source_info",
        f"--descriptor_set_out={out}",
        *sorted(protos.rglob("*.proto")),
        protos=protos,
    )
    return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def _protoc(*arguments: str | Path, protos: Path = PROTOS) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", *map(str, arguments)]
    protoc = subprocess.run(command, capture_output=True, text=True, timeout=HANG_GUARD_S, check=False)
    assert protoc.returncode == 0, protoc.stderr


def contract_comments(folder: Path) -> dict[str, str]:
    """What the contract's files say of each message, field, enum, value, service and method, by full name."""
    found: dict[str, str] = {}
    for file in descriptor_set(PROTOS, folder / "contract.pb").file:
        if file.package == "recserv.v1":
            for location in file.source_code_info.location:
                text = "\n".join(line.removeprefix(" ") for line in location.leading_comments.splitlines()).strip()
                if text and len(location.path) in (2, 4):
                    found[_name_at(file, location.path)] = text
    return dict(sorted(found.items()))


def _name_at(file: descriptor_pb2.FileDescriptorProto, path: Sequence[int]) -> str:
    """A path of numbers, of fields of descriptors and of places in them, as a full name; see SourceCodeInfo."""
    name, node = file.package, cast(Any, file)
    for number, index in zip(path[::2], path[1::2], strict=True):
        node = getattr(node, node.DESCRIPTOR.fields_by_number[number].name)[index]
        # A value's name stands beside its enum's.
        name = (
            f"{file.package}.{node.name}"
            if node.DESCRIPTOR.name == "EnumValueDescriptorProto"
            else f"{name}.{node.name}"
        )
    return name


COMMENTS = PROTOS.parent / "recserv" / "gateway" / "comments.json"


def comments_text(comments: dict[str, str]) -> str:
    return json.dumps(comments, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        COMMENTS.write_text(comments_text(contract_comments(Path(scratch))))
