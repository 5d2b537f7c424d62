"""The loop takes in, in one turn, all that gRPC's thread has for it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from weakref import WeakSet

import grpc
import pytest
import uvloop

from recserv import event_loop
from recserv.event_loop import loop_factory
from recserv.grpc_internals import TRIED
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT

CALLS = 200
"""Fewer than the bytes that the socket holds, some 280."""
EVENTS = 200


class PollerCompletionQueue:
    """gRPC's side of it: an event is queued, then a byte written; one byte read, then the queue emptied."""

    def __init__(self) -> None:
        self.reads, self.writes = socket.socketpair()
        for end in (self.reads, self.writes):
            end.setblocking(False)
        self.waiting = self.taken = self.times_woken = 0

    def put(self) -> None:
        self.waiting += 1
        self.writes.send(b"1")

    def _handle_events(self, loop: object) -> None:
        self.reads.recv(1)
        self.times_woken += 1
        self.taken, self.waiting = self.taken + self.waiting, 0

    def other(self, loop: object) -> None:
        self._handle_events(loop)


Queue = PollerCompletionQueue
MakeLoop = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture
def queue() -> Iterator[Queue]:
    found = Queue()
    yield found
    found.reads.close()
    found.writes.close()


@pytest.fixture(params=[uvloop.Loop, asyncio.SelectorEventLoop])
def make_loop(request: pytest.FixtureRequest) -> MakeLoop:
    return event_loop._made_of(request.param)


async def taken_in(queue: Queue, callback: Callable[[object], None], rounds: int) -> None:
    """Reads until nothing is left, after EVENTS events, and after as many again."""
    loop = asyncio.get_running_loop()
    loop.add_reader(queue.reads, partial(callback, loop))
    for number in range(1, rounds + 1):
        for _ in range(EVENTS):
            queue.put()
        async with asyncio.timeout(HANG_GUARD_S):
            while queue.taken < EVENTS * number:
                await asyncio.sleep(0)
        for _ in range(EVENTS + 100):
            await asyncio.sleep(0)
    loop.remove_reader(queue.reads)


def woken(make_loop: MakeLoop, queue: Queue, callback: Callable[[object], None], rounds: int = 1) -> None:
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(taken_in(queue, callback, rounds))


def test_many_events_wake_grpc_once(make_loop: MakeLoop, queue: Queue) -> None:
    woken(make_loop, queue, queue._handle_events, rounds=3)
    assert (queue.taken, queue.times_woken) == (3 * EVENTS, 3)


def test_readers_other_than_grpcs_are_woken_for_every_event(make_loop: MakeLoop, queue: Queue) -> None:
    woken(make_loop, queue, queue.other)
    assert (queue.taken, queue.times_woken) == (EVENTS, EVENTS)


def test_a_grpc_that_was_not_tried_is_left_alone(
    make_loop: MakeLoop, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert grpc.__version__.startswith(TRIED)
    monkeypatch.setattr(grpc, "__version__", "99.0.0")
    woken(make_loop, queue, queue._handle_events)
    assert (queue.taken, queue.times_woken) == (EVENTS, EVENTS)


def test_bytes_that_several_loops_read_are_left_alone_until_one_of_them_is_left(
    make_loop: MakeLoop, queue: Queue
) -> None:
    another = make_loop()
    another.add_reader(queue.reads, partial(queue._handle_events, another))
    another.remove_reader(queue.reads)
    woken(make_loop, queue, queue._handle_events)
    assert queue.times_woken == EVENTS
    another.close()
    queue.taken = queue.times_woken = 0
    woken(make_loop, queue, queue._handle_events)
    assert queue.times_woken == 1


def test_where_another_took_the_bytes_grpc_is_asked_all_the_same(queue: Queue) -> None:
    loop, asked = Queue(), []
    event_loop._woken_once(queue.reads, WeakSet([loop]), asked.append)("argument")
    assert asked == ["argument"]


def test_the_loop_is_uvloops_where_there_is_one_else_asyncios(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "win32":
        assert loop_factory() is None
        return
    assert event_loop._best_loop() is uvloop.Loop
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert event_loop._best_loop() is asyncio.SelectorEventLoop


def test_a_loop_that_stood_still_takes_in_what_grpc_has_for_it() -> None:
    """The real thing, in a process of its own: gRPC wants one event loop in each."""
    command = [sys.executable, "-m", "tests.busy_loop", str(CALLS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_GUARD_S, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    # gRPC alone takes as many as there are calls.
    assert 0 < int(done.stdout) < 10
