"""What is broken on purpose, how it is mended, and by which labels the answers must tell.

A fault has a *place*; two faults of one place exclude each other, so pairs are of two places.
"""

from __future__ import annotations

import itertools
import os
import resource
import signal
import socket
from collections.abc import Callable
from typing import NamedTuple

from tests.chaos.rig import Rig, corrupt_copy

STATE = frozenset({"STATE_UNAVAILABLE"})
INDEX = frozenset({"INDEX_UNAVAILABLE"})
INDEX_LATE = frozenset({"INDEX_UNAVAILABLE", "INDEX_TIMEOUT"})
RANKER = frozenset({"RANKER_UNAVAILABLE"})
NOTHING: frozenset[str] = frozenset()
HOUR_S = 3600.0


class Fault(NamedTuple):
    """`labels`: those that may appear. `shows`: those that must, or there was no fault. `afterwards` looks at what the
    samples cannot tell; it raises AssertionError.
    """

    name: str
    place: str
    begin: Callable[[Rig], None]
    end: Callable[[Rig], None]
    labels: frozenset[str]
    shows: frozenset[str]
    afterwards: Callable[[Rig], None] = lambda rig: None


def _wire(name: str, **faults: object) -> Fault:
    return Fault(
        f"redis-{name}", "wire", lambda rig: rig.proxy.set(**faults), lambda rig: rig.proxy.heal(), STATE, STATE
    )


def _part(part: str, fault: str, labels: frozenset[str], shows: frozenset[str]) -> Fault:
    return Fault(
        f"{part}-{fault}",
        part,
        lambda rig: _break(rig, part, fault),
        lambda rig: _break(rig, part, None),
        labels,
        shows,
    )


def _break(rig: Rig, part: str, fault: object) -> None:
    """Parts are set together, so what another fault of a pair has broken stays broken."""
    broken = {**rig.broken_parts, part: fault}
    rig.broken_parts = {name: value for name, value in broken.items() if value}
    rig.server.break_parts(**rig.broken_parts)


def _start_redis(rig: Rig) -> None:
    rig.redis.start()
    rig.proxy.redirect(rig.redis.host, rig.redis.port)


def _fill_the_disk(rig: Rig) -> None:
    # No file may grow any more, which to a program is what a full disk is. With `appendfsync always` Redis then ends
    # itself rather than acknowledge what it cannot keep.
    _, hard = resource.prlimit(rig.redis.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(rig.redis.pid, resource.RLIMIT_FSIZE, (1, hard))


def _make_room(rig: Rig) -> None:
    rig.redis.kill()
    _start_redis(rig)


def _configure(rig: Rig, name: str, value: object) -> None:
    with rig.redis.client() as client:
        client.config_set(name, value)


def _become_replica(rig: Rig) -> None:
    with socket.socket() as nobody, rig.redis.client() as client:
        nobody.bind(("127.0.0.1", 0))
        client.replicaof("127.0.0.1", str(nobody.getsockname()[1]))


def _become_primary(rig: Rig) -> None:
    with rig.redis.client() as client:
        client.replicaof("NO", "ONE")


def _swap_in_bad_model(rig: Rig) -> None:
    good, bad = rig.model.with_suffix(".good"), rig.model.with_suffix(".bad")
    if not bad.exists():
        corrupt_copy(rig.model, bad)
    os.rename(rig.model, good)
    os.rename(bad, rig.model)
    rig.refused_before = rig.server.log().count("model refused")
    rig.server.hang_up()


def _swap_back(rig: Rig) -> None:
    good, bad = rig.model.with_suffix(".good"), rig.model.with_suffix(".bad")
    os.rename(rig.model, bad)
    os.rename(good, rig.model)
    rig.server.hang_up()


def _refused(rig: Rig) -> None:
    assert rig.server.log().count("model refused") > rig.refused_before, "the damaged model was not refused"


def _process(name: str, begin: Callable[[Rig], None], end: Callable[[Rig], None], labels: frozenset[str]) -> Fault:
    return Fault(f"redis-{name}", "process", begin, end, labels, labels)


FAULTS: tuple[Fault, ...] = (
    _wire("latency", latency_s=0.3, jitter_s=0.1),
    _wire("blackhole", blackhole=True),
    _wire("reset", reset=True),
    _wire("refuse", refuse=True, cut_every=1, cut_keeps=0.0),
    _wire("cut-mid-message", cut_every=1),
    _wire("1-byte-per-s", bytes_per_s=1.0),
    _wire("garbage", garbage=True),
    _process("kill-9", lambda rig: rig.redis.kill(), _start_redis, STATE),
    _process(
        "sigstop",
        lambda rig: os.kill(rig.redis.pid, signal.SIGSTOP),
        lambda rig: os.kill(rig.redis.pid, signal.SIGCONT),
        STATE,
    ),
    _process("disk-full", _fill_the_disk, _make_room, STATE),
    # Reads go on in these two, so answers stay whole; events are refused.
    _process(
        "oom",
        lambda rig: _configure(rig, "maxmemory", 1),
        lambda rig: _configure(rig, "maxmemory", 0),
        NOTHING,
    ),
    _process("readonly", _become_replica, _become_primary, NOTHING),
    _part("index", "raise", INDEX, INDEX),
    _part("index", "hang", INDEX_LATE, frozenset({"INDEX_TIMEOUT"})),
    _part("index", "garbage", INDEX, INDEX),
    _part("ranker", "raise", RANKER, RANKER),
    _part("ranker", "hang", RANKER, RANKER),
    _part("ranker", "garbage", RANKER, RANKER),
    Fault(
        "clock-1h-ahead",
        "clock",
        lambda rig: _break(rig, "clock_step_s", HOUR_S),
        lambda rig: _break(rig, "clock_step_s", None),
        NOTHING,
        NOTHING,
    ),
    Fault(
        "clock-1h-back",
        "clock",
        lambda rig: _break(rig, "clock_step_s", -HOUR_S),
        lambda rig: _break(rig, "clock_step_s", None),
        NOTHING,
        NOTHING,
    ),
    Fault("corrupt-model", "model", _swap_in_bad_model, _swap_back, NOTHING, NOTHING, _refused),
)

PAIRS: tuple[tuple[Fault, Fault], ...] = tuple(
    (one, other) for one, other in itertools.combinations(FAULTS, 2) if one.place != other.place
)
