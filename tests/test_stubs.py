"""The committed stubs are what protos/ generates, and protos/ is clean. To write them again after a change:

python -m grpc_tools.protoc -Iprotos -I"$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    --python_out=. --pyi_out=. --grpc_python_out=. protos/recserv/v1/recommendation.proto
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.stubs import GOOGLE_PROTOS, PROTOS, generate_stubs
from tests.tools import buf

COMMITTED = PROTOS.parent / "recserv" / "v1"


def test_the_committed_stubs_are_what_the_protos_generate(tmp_path: Path) -> None:
    generate_stubs(tmp_path)
    generated = {path.name: path.read_text() for path in (tmp_path / "recserv" / "v1").iterdir()}
    committed = {
        path.name: path.read_text()
        for path in COMMITTED.iterdir()
        if path.suffix in {".py", ".pyi"} and path.name != "__init__.py"
    }
    assert sorted(committed) == sorted(generated)
    assert [name for name in sorted(generated) if generated[name] != committed[name]] == []


def test_the_contract_passes_buf_lint(tmp_path: Path) -> None:
    shutil.copytree(PROTOS, tmp_path / "protos")
    shutil.copytree(
        GOOGLE_PROTOS / "google" / "rpc",
        tmp_path / "protos" / "google" / "rpc",
        ignore=shutil.ignore_patterns("*.py", "*.pyi", "__pycache__", "context"),
    )
    lint = subprocess.run(
        [buf(), "lint", "protos"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")


def test_buf_lint_would_notice_a_fault(tmp_path: Path) -> None:
    (tmp_path / "buf.yaml").write_text((PROTOS / "buf.yaml").read_text())
    (tmp_path / "recserv" / "v1").mkdir(parents=True)
    (tmp_path / "recserv" / "v1" / "bad.proto").write_text(
        'syntax = "proto3";\npackage recserv.v1;\nenum Colour { RED = 0; }\n'
    )
    lint = subprocess.run([buf(), "lint"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert lint.returncode != 0
    assert "ENUM_ZERO_VALUE_SUFFIX" in lint.stdout + lint.stderr or "_UNSPECIFIED" in lint.stdout + lint.stderr
