"""Callers that hang up before their answer."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.gateway.support import LiveGateway, gateway_to
from tests.patience import HANG_GUARD_S, eventually
from tests.server.harness import Service

BODY = b'{"sessionId": "s"}'
POST = b"POST /rpc/recserv.v1.RecommendationService/%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
REQUESTS = {
    "an RPC": POST % b"Recommend" + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
    "an RPC without a body": POST % b"GetContext" + b"Content-Length: 0\r\n\r\n",
    "a query": b"GET /api/v1/recommendations?session_id=s HTTP/1.1\r\nHost: x\r\n\r\n",
}


class _Held(grpc.GenericRpcHandler):
    """Answers nothing: a call ends when its caller ends it."""

    def __init__(self) -> None:
        self.entered, self.ended = threading.Semaphore(0), threading.Event()

    def service(self, details: Any) -> Any:
        def held(request: bytes, context: Any) -> bytes:
            context.add_callback(self.ended.set)
            self.entered.release()
            self.ended.wait()
            return b""

        return grpc.unary_unary_rpc_method_handler(held)


@pytest.fixture
def held() -> _Held:
    return _Held()


@pytest.fixture
def gateway(held: _Held, service: Service) -> Iterator[LiveGateway]:
    server = grpc.server(ThreadPoolExecutor(2), handlers=(held,), options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    # The deadline is no way out: it is longer than anybody waits here.
    ms = 600_000
    with gateway_to(f"127.0.0.1:{port}", service._loop, timeout_ms=ms, timeout_ms_max=ms) as made:
        yield made
        held.ended.set()
    server.stop(0).wait(HANG_GUARD_S)


@pytest.mark.parametrize("request_name", REQUESTS)
def test_who_hangs_up_ends_the_call_and_frees_the_place(
    request_name: str, gateway: LiveGateway, held: _Held, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    host, port = gateway.address.split(":")
    with socket.create_connection((host, int(port)), timeout=HANG_GUARD_S) as raw:
        raw.sendall(REQUESTS[request_name])
        assert held.entered.acquire(timeout=HANG_GUARD_S)
        assert not held.ended.is_set()
    assert held.ended.wait(HANG_GUARD_S)
    eventually(lambda: not gateway.server.server_state.tasks, "the request has ended")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_connection_that_is_used_again_is_not_taken_for_one_that_was_closed(
    gateway: LiveGateway, held: _Held
) -> None:
    held.ended.set()
    for _ in range(3):
        assert gateway.rpc("Recommend", {}).json == {}
        assert gateway.send("GET", "/api/v1/recommendations?session_id=s").status == 200
