"""What a generation makes of the messages of its loader and its workers; no process is started here."""

from __future__ import annotations

import asyncio
import signal

import pytest

from recserv.app.fleet import generation as module
from recserv.app.fleet.control import (
    Drain,
    Fork,
    Kill,
    LoaderHere,
    Message,
    ModelLoaded,
    ModelRefused,
    Orders,
    Stats,
    WorkerExited,
    WorkerForked,
    WorkerHere,
    WorkerReady,
    WorkerRefused,
)
from recserv.app.fleet.generation import Generation, GenerationFailed
from recserv.app.fleet.restart import ATTEMPTS, SILENT_TICKS_MAX
from recserv.config import Settings
from recserv.errors import UsageError
from tests.patience import HANG_GUARD_S, eventually_async

ORDERS = Orders(settings=Settings(model="m", workers=2), control="c", generation=1, whole=False)


class Peer:
    def __init__(self, hello: LoaderHere | WorkerHere):
        self.hello, self.sent = hello, []

    def send(self, message: Message) -> None:
        self.sent.append(message)


class Watched(Generation):
    """Its loader is the test, and time passes at once."""

    def __init__(self) -> None:
        self.exits: list[str] = []
        self.lost = 0
        super().__init__(ORDERS, on_exit=self.exits.append, on_lost=lambda _: self._count_lost())
        self.loader = Peer(LoaderHere(1, 10))
        self._pids = iter(range(100, 1000))

    def _count_lost(self) -> None:
        self.lost += 1

    async def _launch(self) -> None:
        self.heard(self.loader, self.loader.hello)  # type: ignore[arg-type]
        self.heard(self.loader, ModelLoaded("v", 1, 0.0))  # type: ignore[arg-type]

    def fork(self, slot: int) -> Peer:
        pid = next(self._pids)
        self.heard(self.loader, WorkerForked(slot, pid))  # type: ignore[arg-type]
        peer = Peer(WorkerHere(1, slot, pid))
        self.heard(peer, peer.hello)  # type: ignore[arg-type]
        return peer

    def serve(self, slot: int) -> Peer:
        peer = self.fork(slot)
        self.heard(peer, WorkerReady())  # type: ignore[arg-type]
        return peer

    def end(self, peer: Peer, code: int) -> None:
        assert isinstance(peer.hello, WorkerHere)
        self.gone(peer)  # type: ignore[arg-type]
        self.heard(self.loader, WorkerExited(peer.hello.slot, peer.hello.pid, code))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recserv.app.fleet.restart.FIRST_DELAY_S", 0.0)
    monkeypatch.setattr(module, "_KILL_AFTER_S", 0.01)


async def started() -> tuple[Watched, Peer, Peer]:
    tested = Watched()
    starting = asyncio.create_task(tested.start())
    await asyncio.sleep(0)
    assert tested.loader.sent == [Fork(1), Fork(2)]
    one = tested.serve(1)
    await asyncio.sleep(0)
    assert not starting.done()
    two = tested.serve(2)
    await starting
    assert tested.ready == 2
    return tested, one, two


async def until(tested: Watched, count: int) -> None:
    await eventually_async(lambda: len(tested.loader.sent) >= count)


async def test_a_worker_that_ends_is_forked_again_and_told_of() -> None:
    tested, one, _ = await started()
    tested.end(one, -signal.SIGSEGV)
    await until(tested, 3)
    assert tested.loader.sent[2] == Fork(1)
    assert tested.exits == ["SIGSEGV"]
    assert tested.ready == 1


@pytest.mark.parametrize("refusal", [ModelRefused("bad model"), WorkerRefused("bad address")])
async def test_what_no_attempt_can_cure_ends_the_start(refusal: Message) -> None:
    tested = Watched()
    starting = asyncio.create_task(tested.start())
    await asyncio.sleep(0)
    tested.heard(tested.fork(1) if isinstance(refusal, WorkerRefused) else tested.loader, refusal)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="bad"):
        await starting


async def test_a_worker_that_never_serves_ends_the_start_after_some_attempts() -> None:
    tested = Watched()
    starting = asyncio.create_task(tested.start())
    await asyncio.sleep(0)
    tested.serve(2)
    for number in range(ATTEMPTS):
        await until(tested, 2 + number)
        tested.end(tested.fork(1), 1)
    with pytest.raises(GenerationFailed, match="worker 1-1 cannot start; it ended with exit code 1"):
        await starting


async def test_later_one_worker_that_never_serves_again_takes_nobody_along() -> None:
    tested, one, _ = await started()
    tested.end(one, 1)
    for number in range(2 * ATTEMPTS):
        await until(tested, 3 + number)
        tested.end(tested.fork(1), 1)
    assert tested.lost == 0
    assert tested.ready == 1


async def test_when_nobody_serves_and_nobody_can_all_is_lost() -> None:
    tested, *workers = await started()
    for slot, peer in enumerate(workers, 1):
        tested.end(peer, 1)
        for _ in range(ATTEMPTS):
            tested.end(tested.fork(slot), 1)
    assert tested.lost == 1


async def test_a_drain_tells_everybody_waits_for_them_and_starts_nobody() -> None:
    tested, one, two = await started()
    draining = asyncio.create_task(tested.drain(HANG_GUARD_S))
    await asyncio.sleep(0)
    assert one.sent == two.sent == [Drain()]
    tested.end(one, 0)
    await asyncio.sleep(0)
    assert not draining.done()
    tested.end(two, 0)
    await draining
    assert tested.loader.sent == [Fork(1), Fork(2)]
    assert tested.exits == []


async def test_a_worker_that_arrives_during_the_drain_is_sent_home() -> None:
    tested, one, two = await started()
    tested.end(one, 0)
    draining = asyncio.create_task(tested.drain(HANG_GUARD_S))
    await asyncio.sleep(0)
    late = tested.fork(1)
    assert late.sent == [Drain()]
    for peer in (two, late):
        tested.end(peer, 0)
    await draining


async def test_workers_that_do_not_drain_in_time_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    tested, one, two = await started()
    killed: list[int] = []
    monkeypatch.setattr(module.os, "kill", lambda pid, number: killed.append(pid))
    await tested.drain(0.0)
    assert killed == [peer.hello.pid for peer in (one, two)]
    assert tested.loader.sent[-1] == Kill(0)


async def test_a_worker_that_says_nothing_any_more_is_killed_and_started_again() -> None:
    watched, one, two = await started()
    for _ in range(SILENT_TICKS_MAX):
        watched.tick()
        watched.heard(two, Stats([]))  # type: ignore[arg-type]
    assert Kill(1) not in watched.loader.sent
    watched.tick()
    assert watched.loader.sent[2:] == [Kill(1)]
    watched.end(one, -signal.SIGKILL)
    await until(watched, 4)
    assert watched.loader.sent[3] == Fork(1)
