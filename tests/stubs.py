"""Generates Python stubs from protos/ as any caller would."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from tests.patience import HANG_GUARD_S

PROTOS = Path(__file__).parent.parent / "protos"


def _google_protos() -> Path:
    spec = importlib.util.find_spec("google.rpc")
    assert spec is not None, "googleapis-common-protos is not installed"
    assert spec.submodule_search_locations is not None
    for location in spec.submodule_search_locations:
        if (Path(location) / "status.proto").exists():
            return Path(location).parent.parent
    raise AssertionError("googleapis-common-protos came without its .proto files")


GOOGLE_PROTOS = _google_protos()
"""The folder that holds google/rpc/*.proto."""


def generate_stubs(out: Path) -> None:
    """Writes recserv/v1/*_pb2.py, *_pb2.pyi and *_pb2_grpc.py under `out`."""
    contracts = [str(path.relative_to(PROTOS)) for path in sorted(PROTOS.rglob("*.proto"))]
    protoc = subprocess.run(
        [
            *[sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{GOOGLE_PROTOS}"],
            *[f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"],
            *contracts,
        ],
        capture_output=True,
        text=True,
        timeout=HANG_GUARD_S,
        check=False,
    )
    assert protoc.returncode == 0, protoc.stderr
