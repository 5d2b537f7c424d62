"""Generates Python stubs from protos/ as any caller would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
