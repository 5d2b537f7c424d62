"""Builds the wheel of the Python client: `build.py OUT_DIR`, without network.

Run by `.ci/client-wheel` with an interpreter that has an old grpcio-tools: the stubs in the wheel are not the committed
ones, which need the protobuf of the server, but are generated anew. Everything else is copied as it is, because nothing
of the client knows that it is in another wheel.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
TOP = HERE.parent.parent
MODULES = ("__init__.py", "py.typed", "types.py", "errors.py", "version.py", "client", "v1/__init__.py")
"""Of the folder recserv/; what they import is among them, or a dependency of the wheel."""


def stage(folder: Path) -> None:
    """Lays out in an empty folder what the wheel is built from."""
    for name in MODULES:
        source, target = TOP / "recserv" / name, folder / "recserv" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    _generate(folder)
    for source in (TOP / "LICENSE", HERE / "README.md"):
        shutil.copy(source, folder)
    (folder / "pyproject.toml").write_text(_metadata())


def _generate(folder: Path) -> None:
    protos = TOP / "protos"
    contract = sorted((protos / "recserv").rglob("*.proto"))
    _run("grpc_tools.protoc", f"-I{protos}", f"--python_out={folder}", f"--pyi_out={folder}", *contract)
    services = [path for path in contract if path.stem.endswith("_service")]
    _run("grpc_tools.protoc", f"-I{protos}", f"--grpc_python_out={folder}", *services)


def _metadata() -> str:
    """The template with what is the same for the project as a whole."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    text = (HERE / "metadata.toml").read_text()
    for key in ("version", "requires-python", "license"):
        text = text.replace(f'"@{key}@"', f'"{project[key]}"')
    return text


def _run(module: str, *arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=True)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} OUT_DIR")
    with tempfile.TemporaryDirectory(prefix="recserv-client-") as scratch:
        stage(Path(scratch))
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
        _run("pip", "wheel", *options, "--wheel-dir", sys.argv[1], scratch)


if __name__ == "__main__":
    main()
