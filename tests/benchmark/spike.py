"""So many calls at once from one process, each sent again after the server's delay."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

import grpc
import grpc.aio

from recserv.event_loop import loop_factory

METHOD = "/recserv.v1.RecommendationService/Recommend"
TIMEOUT_S = 10.0


async def spike(target: str, body: bytes, connections: int, at_once: int, seconds: float) -> Counter[str]:
    """Ends by status; `told` of those turned away say when to come again."""
    loop, ends = asyncio.get_running_loop(), Counter[str]()
    over_s = loop.time() + seconds
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    channels = [grpc.aio.insecure_channel(target, options) for _ in range(connections)]

    async def caller(channel: grpc.aio.Channel) -> None:
        while loop.time() < over_s:
            try:
                await channel.unary_unary(METHOD)(body, timeout=TIMEOUT_S)
                ends["OK"] += 1
            except grpc.aio.AioRpcError as error:
                ends[error.code().name] += 1
                delay_ms = dict(error.trailing_metadata()).get("grpc-retry-pushback-ms")
                ends["told"] += delay_ms is not None
                await asyncio.sleep(float(delay_ms or 100) / 1000)

    await asyncio.gather(*(caller(channels[number % connections]) for number in range(at_once)))
    return ends


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        target, body, *numbers = sys.argv[1:]
        connections, at_once, seconds = map(int, numbers)
        print(json.dumps(runner.run(spike(target, bytes.fromhex(body), connections, at_once, seconds))))
