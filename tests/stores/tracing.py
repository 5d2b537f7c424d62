"""What a traced program wrote and synced, in order, and whether its acknowledgements were true.

    strace, or a preloaded shim compiled from syscalls.c  -> trace file -> Step*  -> false_acknowledgements

Markers name the events: `<<name>>` stands in the event, so it is in the write of the write-ahead log, and
`<<ack name>>` in the program's acknowledgement.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tests.project_files import ROOT

SHIM_SOURCE = Path(__file__).with_name("syscalls.c")
MARKER = re.compile(r"<<(.{1,98}?)>>")


class Step(NamedTuple):
    """`fd` of what was written or synced. A sync that failed has no `sync-end`."""

    kind: Literal["write", "sync-begin", "sync-end"]
    fd: int
    marker: str = ""


Tracer = Callable[[Sequence[str], Path], list[Step]]


def tracers() -> dict[str, Tracer]:
    """The shim always, strace where it is there and may trace."""
    found: dict[str, Tracer] = {"shim": trace_with_shim}
    if shutil.which("strace") and subprocess.run(["strace", "-qq", "true"], capture_output=True).returncode == 0:
        found["strace"] = trace_with_strace
    return found


def trace_with_strace(command: Sequence[str], directory: Path) -> list[Step]:
    out = directory / "strace.out"
    calls = "trace=write,pwrite64,fsync,fdatasync"
    run(["strace", "-f", "-qq", "-e", "signal=none", "-e", calls, "-s", "100000", "-o", str(out), *command], {})
    return list(parse_strace(out.read_text(errors="replace").splitlines()))


def parse_strace(lines: Sequence[str]) -> Iterator[Step]:
    """A call that another thread interrupts has two lines: it began at the first and returned at the second."""
    pending: dict[str, int] = {}
    for line in lines:
        thread, _, call = line.partition(" ")
        call = call.strip()
        if begun := re.match(r"(\w+)\((\d+)", call):
            name, fd = begun[1], int(begun[2])
            if name in ("fsync", "fdatasync"):
                yield Step("sync-begin", fd)
                pending[thread] = fd
            else:
                yield from (Step("write", fd, marker) for marker in MARKER.findall(call))
        returned = call.endswith("= 0") and re.match(r"(<\.\.\. )?(fsync|fdatasync)\b", call)
        if returned and thread in pending:
            yield Step("sync-end", pending.pop(thread))


def trace_with_shim(command: Sequence[str], directory: Path) -> list[Step]:
    library, out = directory / "syscalls.so", directory / "shim.out"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    compiler = compiler if shutil.which(compiler) else "cc"
    run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM_SOURCE)], {})
    run(command, {"LD_PRELOAD": str(library), "SYSCALLS_LOG": str(out)})
    return list(parse_shim(out.read_text().splitlines()))


def parse_shim(lines: Sequence[str]) -> Iterator[Step]:
    for line in lines:
        kind, fd, *rest = line.split(" ", 2)
        if kind == "write":
            yield Step("write", int(fd), rest[0])
        elif kind == "sync-begin":
            yield Step("sync-begin", int(fd))
        elif kind == "sync-end" and rest == ["0"]:
            yield Step("sync-end", int(fd))


def run(command: Sequence[str], environment: dict[str, str]) -> str:
    """Its standard output. A program that fails fails the test."""
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=ROOT, env={**os.environ, **environment}
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


def python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def false_acknowledgements(steps: Sequence[Step]) -> list[str]:
    """The acknowledged events that were not durable yet: no sync of the file that they were written to began after the
    write and returned before the acknowledgement.
    """
    written: dict[str, tuple[int, int]] = {}
    begun: dict[int, int] = {}
    # Per file, the position of the latest begin of a sync that has returned.
    synced: dict[int, int] = {}
    false = []
    for position, step in enumerate(steps):
        if step.kind == "sync-begin":
            begun[step.fd] = position
        elif step.kind == "sync-end":
            synced[step.fd] = begun[step.fd]
        elif not step.marker.startswith("ack "):
            written[step.marker] = (step.fd, position)
        else:
            name = step.marker.removeprefix("ack ")
            fd, at = written.get(name, (-1, len(steps)))
            if synced.get(fd, -1) < at:
                false.append(name)
    return false


def acknowledged(steps: Sequence[Step]) -> list[str]:
    return [step.marker.removeprefix("ack ") for step in steps if step.marker.startswith("ack ")]
