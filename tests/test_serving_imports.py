"""What a serving process loads: no module compiled from Rust, and nothing that belongs to building or to people."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.patience import HANG_GUARD_S
from tests.project_files import module_name, package_sources

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess

SERVING = {
    *["app", "config", "config_llm", "errors", "index", "llm", "logs", "metrics", "model", "pipeline"],
    *["resilience", "server", "stores", "types", "v1"],
}
OFFLINE = ["pyarrow", "scipy", "rich", "pandas", "matplotlib", "torch", "recserv.training", "recserv.evaluation"]
COMPILED_FROM_RUST = [
    *["orjson", "pydantic", "pydantic_core", "cryptography", "tokenizers", "tiktoken", "safetensors", "polars"],
    *["rpds", "jiter", "bcrypt", "nh3", "blake3", "ormsgpack", "cramjam", "rjsmin", "fastuuid", "uuid_utils"],
    *["watchfiles", "granian", "robyn", "lance", "primp", "ast_serialize", "xxhash_rust", "deltalake", "datafusion"],
]
RUST_MARKS = (b"rust_panic", b"rust_eh_personality", b"/rustc/", b"core::panicking", b"RUST_BACKTRACE")

REPORT = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
loaded = {name: getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items())}
with open("/proc/self/maps") as maps:
    mapped = sorted({line.split(maxsplit=5)[5].strip() for line in maps if ".so" in line})
print(json.dumps({"modules": loaded, "mapped": mapped}))
"""


def is_compiled_from_rust(binary: Path) -> bool:
    data = binary.read_bytes()
    return any(mark in data for mark in RUST_MARKS)


def _foreign_libraries(mapped: list[str]) -> list[Path]:
    """The libraries that Python packages brought; those of the system are not ours to judge."""
    base = Path(sysconfig.get_path("purelib")).resolve()
    here = Path(__file__).resolve().parent.parent
    paths = [Path(name).resolve() for name in mapped if not name.endswith("(deleted)")]
    return [path for path in paths if path.is_relative_to(base) or path.is_relative_to(here)]


@pytest.fixture(scope="module")
def loaded_by_serving() -> dict[str, list[str] | dict[str, str]]:
    """Everything that a clean process holds after importing the whole serving side."""
    names = [module_name(path) for path in package_sources() if path.with_suffix("").parts[1] in SERVING]
    assert "recserv.app" in names
    names += ["recserv.v1.recommendation_service_pb2_grpc", "recserv.commands.serve"]
    command = [sys.executable, "-c", REPORT, json.dumps(names)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=HANG_GUARD_S, check=False)
    assert process.returncode == 0, process.stderr
    report: dict[str, list[str] | dict[str, str]] = json.loads(process.stdout)
    return report


def test_serving_imports_nothing_that_belongs_to_building_or_to_people(loaded_by_serving: dict) -> None:
    modules = loaded_by_serving["modules"]
    assert [name for name in OFFLINE if name in modules] == []


def test_serving_imports_no_module_compiled_from_rust(loaded_by_serving: dict) -> None:
    assert [name for name in COMPILED_FROM_RUST if name in loaded_by_serving["modules"]] == []
    libraries = _foreign_libraries(loaded_by_serving["mapped"])
    assert any("grpc" in path.parts for path in libraries), "the search for libraries found nothing to look at"
    assert [str(path) for path in libraries if is_compiled_from_rust(path)] == []


def test_a_running_server_has_mapped_no_library_compiled_from_rust(recserv_server: ServerProcess) -> None:
    maps = Path(f"/proc/{recserv_server.pid}/maps").read_text().splitlines()
    libraries = _foreign_libraries(sorted({line.split(maxsplit=5)[5] for line in maps if ".so" in line}))
    assert any("hnswlib" in path.name for path in libraries)
    assert [str(path) for path in libraries if is_compiled_from_rust(path)] == []


def test_the_rust_detector_knows_rust_when_it_sees_it() -> None:
    assert is_compiled_from_rust(Path(sysconfig.get_path("scripts")) / "ruff")
