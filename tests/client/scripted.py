"""A gRPC server that answers each call as its script says, and notes when each attempt came."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc

from recserv.v1 import recommendation_pb2 as pb

SERVICE = "recserv.v1.RecommendationService"


class Step(NamedTuple):
    code: grpc.StatusCode = grpc.StatusCode.OK
    pushback_ms: int | None = None
    delay_s: float = 0.0
    answer: bytes = pb.RecommendResponse(model_version="scripted").SerializeToString()


class ScriptedServer:
    """Any unary method: the next step, then OK for good."""

    def __init__(self, address: str, steps: list[Step]):
        self.address, self.steps = address, steps
        self.attempts_s: list[float] = []

    def answer(self, request: bytes, context: Any) -> bytes:
        self.attempts_s.append(time.monotonic())
        step = self.steps.pop(0) if self.steps else Step()
        time.sleep(step.delay_s)
        if step.code is not grpc.StatusCode.OK:
            if step.pushback_ms is not None:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", str(step.pushback_ms)),))
            context.abort(step.code, "as the script says")
        return step.answer


@contextmanager
def scripted(*steps: Step) -> Iterator[ScriptedServer]:
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    script = ScriptedServer("", list(steps))
    methods = ("Recommend", "IngestEvent", "GetContext")
    handlers = {name: grpc.unary_unary_rpc_method_handler(script.answer) for name in methods}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    script.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield script
    finally:
        server.stop(0).wait()
