"""How many turns an event loop that is always busy takes for the answers to so many calls, all of them there already.

`python -m tests.busy_loop CALLS` prints it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio

from recserv.event_loop import loop_factory

TURN_S = 0.001
METHOD = "/test/Call"
GIVE_UP_S = 20.0


class Counting(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Answers everything, and counts."""

    def __init__(self) -> None:
        self.answered, self._lock = 0, threading.Lock()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            self.answered += 1
        return request


async def turns_for(calls: int, target: str, handler: Counting) -> int:
    async with grpc.aio.insecure_channel(target) as channel:
        await channel.channel_ready()
        call = channel.unary_unary(METHOD)

        async def one() -> None:
            await call(b"")

        tasks = [asyncio.ensure_future(one()) for _ in range(calls)]
        give_up_s = time.monotonic() + GIVE_UP_S
        while handler.answered < calls and time.monotonic() < give_up_s:
            # Turns of the loop send them off; it is held up while they are answered.
            await asyncio.sleep(0)
            time.sleep(0.05)
        turns = 0
        while not all(task.done() for task in tasks) and time.monotonic() < give_up_s:
            time.sleep(TURN_S)
            await asyncio.sleep(0)
            turns += 1
        await asyncio.gather(*tasks)
        return turns


def main() -> None:
    handler = Counting()
    server = grpc.server(ThreadPoolExecutor(4), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        print(runner.run(turns_for(int(sys.argv[1]), f"127.0.0.1:{port}", handler)))
    server.stop(None)


if __name__ == "__main__":
    main()
