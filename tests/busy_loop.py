"""How many turns an event loop takes for the answers to so many calls, all of them there already.

`python -m tests.busy_loop CALLS` prints it.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import sys
import termios
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio

from recserv.event_loop import loop_factory
from tests.patience import HANG_GUARD_S, eventually, eventually_async

METHOD = "/test/Call"


class Counting(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Counts the calls that came, and answers them from when `gate` is set."""

    def __init__(self) -> None:
        self.came, self.gate = 0, threading.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        self.came += 1
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        assert self.gate.wait(HANG_GUARD_S)
        return request


def watched(loop: type) -> type:
    """That loop, which knows the socket that gRPC's thread writes to."""

    class Watched(loop):  # type: ignore[misc]
        wakes: socket.socket

        def add_reader(self, fd: Any, callback: Any, *args: Any) -> Any:
            if isinstance(fd, socket.socket):
                self.wakes = fd
            return super().add_reader(fd, callback, *args)

        def waiting(self) -> int:
            """How many bytes are written and not yet read, one for each event."""
            found = array.array("i", [0])
            fcntl.ioctl(self.wakes, termios.FIONREAD, found)
            return found[0]

    return Watched


async def turns_for(calls: int, target: str, handler: Counting) -> int:
    loop: Any = asyncio.get_running_loop()
    async with grpc.aio.insecure_channel(target) as channel:
        await channel.channel_ready()
        call = channel.unary_unary(METHOD)

        async def one() -> None:
            await call(b"")

        tasks = [asyncio.ensure_future(one()) for _ in range(calls)]
        await eventually_async(lambda: handler.came == calls, f"{calls} calls came")
        while loop.waiting():
            await asyncio.sleep(0)
        # From here on the loop stands still until everything is there.
        handler.gate.set()
        eventually(lambda: loop.waiting() == calls, f"{calls} answers are there")
        turns = 0
        while loop.waiting() or not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            turns += 1
        await asyncio.gather(*tasks)
        return turns


def main() -> None:
    handler = Counting()
    server = grpc.server(ThreadPoolExecutor(4), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    made = loop_factory()
    assert isinstance(made, type)
    with asyncio.Runner(loop_factory=watched(made)) as runner:
        print(runner.run(turns_for(int(sys.argv[1]), f"127.0.0.1:{port}", handler)))
    server.stop(None)


if __name__ == "__main__":
    main()
