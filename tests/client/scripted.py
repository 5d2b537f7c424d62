"""A gRPC server that answers each call as its script says, and counts the attempts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from recserv import v1 as pb
from tests.patience import HANG_GUARD_S

SERVICE = "recserv.v1.RecommendationService"
METHODS = ("Recommend", "IngestEvent", "GetContext")


class Step(NamedTuple):
    """`held`: answered once that is set, at the latest when the server ends. `sets`: what the client is about to hear
    this answer lets go.
    """

    code: grpc.StatusCode = grpc.StatusCode.OK
    pushback_ms: int | None = None
    held: threading.Event | None = None
    sets: threading.Event | None = None
    answer: bytes = pb.RecommendResponse(model_version="scripted").SerializeToString()


class ScriptedServer:
    """Any unary method: the next step, then OK for good. `attempts`: the method of each, in their order."""

    def __init__(self, address: str, steps: list[Step]):
        self.address, self.steps = address, steps
        self.attempts: list[str] = []
        self.health = health.HealthServicer()
        self.says_serving(True)
        self._held: list[threading.Event] = [step.held for step in steps if step.held is not None]

    def answer(self, method: str, request: bytes, context: Any) -> bytes:
        self.attempts.append(method)
        step = self.steps.pop(0) if self.steps else Step()
        if step.sets is not None:
            # Once the answer is on its way: what is let go by it is answered after it.
            context.add_callback(step.sets.set)
        if step.held is not None:
            step.held.wait(HANG_GUARD_S)
        if step.code is not grpc.StatusCode.OK:
            if step.pushback_ms is not None:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", str(step.pushback_ms)),))
            context.abort(step.code, "as the script says")
        return step.answer

    def says_serving(self, serving: bool) -> None:
        """To those who watch its health; it answers all the same."""
        states = health_pb2.HealthCheckResponse
        self.health.set(SERVICE, states.SERVING if serving else states.NOT_SERVING)

    def let_go(self) -> None:
        for held in self._held:
            held.set()


@contextmanager
def scripted(*steps: Step) -> Iterator[ScriptedServer]:
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    script = ScriptedServer("", list(steps))
    handlers = {name: grpc.unary_unary_rpc_method_handler(partial(script.answer, name)) for name in METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    health_pb2_grpc.add_HealthServicer_to_server(script.health, server)
    script.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield script
    finally:
        script.let_go()
        server.stop(0).wait(HANG_GUARD_S)
