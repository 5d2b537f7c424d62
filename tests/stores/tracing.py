"""What a traced program wrote, synced and sent, in order, and whether its acknowledgements were true.

    strace, or a preloaded shim compiled from syscalls.c  -> trace file -> Step*  -> false_acknowledgements

Markers name the events: `<<name>>` stands in the event, so it is in the write of the write-ahead log. An
acknowledgement is a write of `<<ack name>>`, or whatever is sent on a socket and holds a text that only the answer to
that event holds.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tests import tools
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT

SHIM_SOURCE = Path(__file__).with_name("syscalls.c")
STRACE_FILE, SHIM_FILE = "strace.out", "shim.out"
MARKER = re.compile(r"<<(.{1,98}?)>>")


class Step(NamedTuple):
    """`fd` of what was written, sent to or synced. `text`: the marker written, or what was sent as far as it can be
    printed. A sync that failed has no `sync-end`.
    """

    kind: Literal["write", "send", "sync-begin", "sync-end"]
    fd: int
    text: str = ""


class Traced(NamedTuple):
    """How to run a program so that it is traced: the command, and what its environment has besides."""

    command: list[str]
    environment: dict[str, str]


class Tracer(NamedTuple):
    """`prepare(command, directory)` before the program runs, `steps(directory)` after it has ended."""

    prepare: Callable[[Sequence[str], Path], Traced]
    steps: Callable[[Path], list[Step]]


def trace(tracer: Tracer, command: Sequence[str], directory: Path) -> list[Step]:
    run(*tracer.prepare(command, directory))
    return tracer.steps(directory)


def prepare_strace(command: Sequence[str], directory: Path) -> Traced:
    calls = "trace=write,pwrite64,writev,sendto,sendmsg,sendmmsg,fsync,fdatasync"
    options = ["-f", "--seccomp-bpf", "-qq", "-e", "signal=none", "-e", calls, "-s", "100000"]
    return Traced([tools.strace(), *options, "-o", str(directory / STRACE_FILE), *command], {})


def strace_steps(directory: Path) -> list[Step]:
    return list(parse_strace((directory / STRACE_FILE).read_text(errors="replace").splitlines()))


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
            elif name in ("sendto", "sendmsg", "sendmmsg", "writev"):
                yield Step("send", fd, call)
            elif markers := MARKER.findall(call):
                yield from (Step("write", fd, marker) for marker in markers)
            else:
                # Some write to their sockets.
                yield Step("send", fd, call)
        returned = call.endswith("= 0") and re.match(r"(<\.\.\. )?(fsync|fdatasync)\b", call)
        if returned and thread in pending:
            yield Step("sync-end", pending.pop(thread))


def prepare_shim(command: Sequence[str], directory: Path) -> Traced:
    library = directory / "syscalls.so"
    run([tools.compiler(), "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM_SOURCE)], {})
    return Traced([*command], {"LD_PRELOAD": str(library), "SYSCALLS_LOG": str(directory / SHIM_FILE)})


def shim_steps(directory: Path) -> list[Step]:
    return list(parse_shim((directory / SHIM_FILE).read_text().splitlines()))


def parse_shim(lines: Sequence[str]) -> Iterator[Step]:
    for line in lines:
        kind, fd, *rest = line.split(" ", 2)
        if kind == "write":
            yield Step("write", int(fd), rest[0])
        elif kind == "send":
            yield Step("send", int(fd), rest[0])
        elif kind == "sync-begin":
            yield Step("sync-begin", int(fd))
        elif kind == "sync-end" and rest == ["0"]:
            yield Step("sync-end", int(fd))


TRACERS = {"shim": Tracer(prepare_shim, shim_steps), "strace": Tracer(prepare_strace, strace_steps)}


def run(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Its standard output. A program that fails fails the test."""
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=HANG_GUARD_S, cwd=ROOT, env={**os.environ, **environment}
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


def python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


class Acknowledgement(NamedTuple):
    event: str
    true: bool


def acknowledgements(steps: Sequence[Step], sent: Mapping[str, str] | None = None) -> list[Acknowledgement]:
    """Every acknowledgement, in order. It is true if the event was durable: a sync of the file that it was written to
    began after the write and returned before the acknowledgement began.

    `sent`: event -> the text by which what was sent on a socket is known as the event's acknowledgement.
    """
    written: dict[str, tuple[int, int]] = {}
    begun: dict[int, int] = {}
    # Per file, the position of the latest begin of a sync that has returned.
    synced: dict[int, int] = {}
    waiting = dict(sent or {})
    found: list[Acknowledgement] = []

    def acknowledge(name: str) -> None:
        fd, at = written.get(name, (-1, len(steps)))
        found.append(Acknowledgement(name, synced.get(fd, -1) > at))

    for index, step in enumerate(steps):
        if step.kind == "sync-begin":
            begun[step.fd] = index
        elif step.kind == "sync-end":
            synced[step.fd] = begun[step.fd]
        elif step.kind == "send":
            for name in [name for name, text in waiting.items() if text in step.text]:
                acknowledge(name)
                del waiting[name]
        elif step.text.startswith("ack "):
            acknowledge(step.text.removeprefix("ack "))
        else:
            # Its page is written again with every later event that it has room for; the first write is its commit.
            written.setdefault(step.text, (step.fd, index))
    return found


def false_acknowledgements(steps: Sequence[Step], sent: Mapping[str, str] | None = None) -> list[str]:
    return [name for name, true in acknowledgements(steps, sent) if not true]


def acknowledged(steps: Sequence[Step], sent: Mapping[str, str] | None = None) -> list[str]:
    return [name for name, _ in acknowledgements(steps, sent)]
