"""The server that does nothing: grpc.aio, raw bytes in, fixed bytes out. What another server adds is its own.

Runs as a process of its own (`python -m recserv.bench.null_server`), listens on a free loopback port and prints
`null server listening on HOST:PORT`; SIGTERM or the end of its standard input stops it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import grpc

from recserv import v1 as pb
from recserv.event_loop import loop_factory

BANNER = "null server listening on "


class _AnswerEverything(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Any method, unary: the same bytes."""

    def __init__(self, answer: bytes):
        async def handle(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            return answer

        self._handler = grpc.unary_unary_rpc_method_handler(handle)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return self._handler


async def serve(answer: bytes) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([_AnswerEverything(answer)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{BANNER}127.0.0.1:{port}\n")
    sys.stdout.flush()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    # The parent holds the other end, so this process ends with it, however it dies.
    loop.add_reader(sys.stdin.fileno(), stopped.set)
    await stopped.wait()
    await server.stop(grace=None)


def main() -> None:
    parser = argparse.ArgumentParser(description="A gRPC server that answers every call with the same bytes.")
    parser.add_argument(
        "--response-bytes", type=int, default=0, metavar="N", help="approximate size of the answer in bytes (0)"
    )
    arguments = parser.parse_args()
    # The same loop as recserv's own, so that only what runs on top of it is compared.
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(_answer(arguments.response_bytes)))


def _answer(size: int) -> bytes:
    """A response of about that size that the caller can parse."""
    return pb.RecommendResponse(next_page_token="x" * max(0, size - 3)).SerializeToString()


if __name__ == "__main__":
    main()
