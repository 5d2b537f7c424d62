"""A read sent a second time when the first is slow: the first answer counts, the other call is cancelled.

Over several servers the second one goes to another of them (round robin). A failure is no answer as long as the other
call may still bring one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import grpc


def hedged(start: Callable[[float], Any], hedge_after_s: float, timeout_s: float) -> Any:
    """`start(timeout_s)` begins a call and returns its grpc future. Raises grpc.RpcError."""
    ends_s = time.monotonic() + timeout_s
    calls = [start(timeout_s)]
    try:
        try:
            return calls[0].result(hedge_after_s)
        except grpc.FutureTimeoutError:
            calls.append(start(max(0.0, ends_s - time.monotonic())))
        finished: SimpleQueue[Any] = SimpleQueue()
        for call in calls:
            call.add_done_callback(finished.put)
        first = finished.get()
        # Each of them ends at its deadline at the latest.
        return (first if first.code() is grpc.StatusCode.OK else finished.get()).result()
    finally:
        for call in calls:
            call.cancel()


async def hedged_async(start: Callable[[float], Any], hedge_after_s: float, timeout_s: float) -> Any:
    """`start(timeout_s)` begins a grpc.aio call. Raises grpc.RpcError."""
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + timeout_s

    async def answer(left_s: float) -> Any:
        return await start(left_s)

    calls = {asyncio.ensure_future(answer(timeout_s))}
    try:
        done, _ = await asyncio.wait(calls, timeout=hedge_after_s)
        if not done:
            calls.add(asyncio.ensure_future(answer(max(0.0, ends_s - loop.time()))))
            done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            if waiting and all(call.exception() is not None for call in done):
                done, _ = await asyncio.wait(waiting)
        return await next((call for call in done if call.exception() is None), next(iter(done)))
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
