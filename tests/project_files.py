"""The files that make up the project, as its own tests look at them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.patience import HANG_GUARD_S

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "recserv"
GENERATED = PACKAGE / "v1"
LEFT_BY_TOOLS = {"__pycache__"}
OURS = ("recserv", "tests", "ext", "protos", "deploy", ".ci", ".github")
"""Folders in which a file that is not tracked yet is one that somebody is writing. Elsewhere it may be anything: a
model, a state file, a shop's events."""


@cache
def project_files() -> tuple[Path, ...]:
    """What git tracks, and what is new in the folders of ours. Without git, all of those folders but what tools leave
    behind. Relative to ROOT.
    """
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--exclude-standard"]
    try:
        listed = [*_names([*git, "--cached"]), *_names([*git, "--others", "--", *OURS])]
    except (OSError, subprocess.CalledProcessError):
        # No git here, or a checkout that belongs to somebody else.
        return tuple(sorted(path for name in OURS for path in _walk(ROOT / name)))
    return tuple(sorted({Path(name) for name in listed if (ROOT / name).is_file()}))


def _names(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_GUARD_S, check=True)
    return [name for name in done.stdout.split("\0") if name]


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            if path.name not in LEFT_BY_TOOLS:
                yield from _walk(path)
        elif path.suffix not in {".so", ".pyc", ".c", ".cpp"} and not _listing(path):
            yield path.relative_to(ROOT)


def _listing(path: Path) -> bool:
    """Of a kernel, as Cython writes it when asked to."""
    return path.suffix == ".html" and path.with_suffix(".pyx").exists()


def package_sources() -> list[Path]:
    """The Python files of the package that somebody wrote, relative to ROOT."""
    return [
        path
        for path in project_files()
        if path.suffix == ".py" and path.parts[0] == "recserv" and (ROOT / path).parent != GENERATED
    ]


def module_name(path: Path) -> str:
    """recserv/stores/base.py -> recserv.stores.base; a package's __init__.py is the package."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every import of a file, also inside functions and under TYPE_CHECKING: (line, absolute module name).

    `from recserv import errors` counts as recserv.errors, `from recserv.stores.base import X` as recserv.stores.base.
    """
    tree = ast.parse((ROOT / path).read_text(), filename=str(path))
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                climbed = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*climbed, base]) if base else ".".join(climbed)
            for alias in node.names:
                yield node.lineno, _submodule(base, alias.name)


def _submodule(base: str, name: str) -> str:
    """`base.name` where that is a module of ours (a compiled one included), else `base`."""
    if not base.startswith("recserv"):
        return base
    place = ROOT.joinpath(*base.split("."), name)
    ours = place.is_dir() or place.with_suffix(".py").exists() or place.with_suffix(".pyi").exists()
    return f"{base}.{name}" if ours else base


def is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names
