"""One of two servers is terminated under load, again and again; a default client loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from pathlib import Path

import grpc
import grpc.aio
import pytest

from recserv import v1 as pb
from recserv.app.server_process import ServerProcess

pytestmark = pytest.mark.chaos

RATE_PER_S, CHANNELS, STOPS = 300, 6, 5
METHOD = "/recserv.v1.RecommendationService/Recommend"


class Load:
    """Calls that are due evenly, whatever the answers do, by channels that go round the servers and retry nothing."""

    def __init__(self, targets: list[str]) -> None:
        options = [("grpc.lb_policy_name", "round_robin"), ("grpc.use_local_subchannel_pool", 1)]
        where = f"ipv4:{','.join(targets)}"
        self._channels = [grpc.aio.insecure_channel(where, options=options) for _ in range(CHANNELS)]
        self.answers: Counter[str] = Counter()

    async def run(self, over: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        due_s, calls = loop.time(), set()
        while not over.is_set():
            calls.add(loop.create_task(self._call(self._channels[len(calls) % CHANNELS])))
            due_s += 1 / RATE_PER_S
            await asyncio.sleep(max(0.0, due_s - loop.time()))
        await asyncio.gather(*calls)
        for channel in self._channels:
            await channel.close()

    async def _call(self, channel: grpc.aio.Channel) -> None:
        try:
            await channel.unary_unary(METHOD)(pb.RecommendRequest().SerializeToString(), timeout=10)
            self.answers["OK"] += 1
        except grpc.aio.AioRpcError as error:
            self.answers[f"{error.code().name}: {error.details()}"] += 1


async def test_no_call_fails_while_one_of_two_servers_is_terminated(tiny_model: Path, tmp_path: Path) -> None:
    with ServerProcess.started(tiny_model, tmp_path / "stays.db") as staying:
        for stop in range(STOPS):
            with (
                ServerProcess.started(tiny_model, tmp_path / f"goes-{stop}.db") as going,
                contextlib.ExitStack() as ends,
            ):
                load, over = Load([staying.target, going.target]), asyncio.Event()
                ends.callback(over.set)
                running = asyncio.create_task(load.run(over))
                await asyncio.sleep(1.0)
                assert await asyncio.to_thread(going.stop) == 0
                await asyncio.sleep(0.5)
                over.set()
                await running
                print(f"stop {stop + 1}: {dict(load.answers)}")
                assert set(load.answers) == {"OK"}
