"""What the parent makes of what it hears of its generations; no process is started here."""

from __future__ import annotations

import asyncio
import signal
from typing import cast

import pytest

from recserv.app.fleet import supervisor as module
from recserv.app.fleet.control import Message, Peer, Stats, WorkerHere
from recserv.app.fleet.generation import Generation, GenerationFailed
from recserv.app.fleet.supervisor import Supervisor
from recserv.config import Settings
from tests.patience import HANG_GUARD_S

LATE_S = 60 * HANG_GUARD_S


class Workers:
    """A generation of two, of which each was asked for what it has."""

    number, ready = 1, 2
    pids = (101, 102)

    def ask_stats(self) -> list[int]:
        return list(self.pids)

    def heard(self, peer: Peer, message: Message) -> None: ...

    def gone(self, peer: Peer) -> None: ...

    async def drain(self, grace_s: float) -> None: ...

    def peers(self) -> list[Peer]:
        return [Peer(WorkerHere(1, slot, pid), cast(asyncio.StreamWriter, None)) for slot, pid in enumerate(self.pids)]


class Lost(Supervisor):
    """Every attempt to replace its generation fails."""

    attempts = 0

    async def _replace(self) -> Generation:
        self.attempts += 1
        raise GenerationFailed("no memory")


def supervising(kind: type[Supervisor] = Supervisor) -> tuple[Supervisor, Workers]:
    tested, workers = kind(Settings(model="m", workers=2), "127.0.0.1:1", lambda _: None), Workers()
    tested._serving = tested._generations[1] = cast(Generation, workers)
    return tested, workers


async def test_a_signal_between_two_attempts_to_start_new_workers_waits_for_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_LOST_RETRY_S", LATE_S)
    tested, workers = supervising(Lost)
    assert isinstance(tested, Lost)
    tested._lost(cast(Generation, workers))
    await asyncio.sleep(0)
    assert tested.attempts == 1
    tested._signalled(signal.SIGTERM)
    async with asyncio.timeout(HANG_GUARD_S):
        await tested._drain_all()
    assert tested.attempts == 1


@pytest.mark.parametrize("dies", ["first", "last"])
async def test_a_scrape_does_not_wait_for_a_worker_that_dies_during_it(
    dies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SCRAPE_WAIT_S", LATE_S)
    tested, workers = supervising()
    answering, dying = workers.peers()
    scrape = asyncio.create_task(tested._ask_all())
    await asyncio.sleep(0)
    if dies == "first":
        tested._gone(dying)
    tested._heard(answering, Stats([]))
    if dies == "last":
        await asyncio.sleep(0)
        assert not scrape.done()
        tested._gone(dying)
    async with asyncio.timeout(HANG_GUARD_S):
        await scrape
