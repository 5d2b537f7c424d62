"""A connection that keeps the gateway waiting is closed, and there are never more than so many of them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from recserv.gateway.connections import BoundedProtocol
from tests.gateway.support import LiveGateway
from tests.patience import HANG_GUARD_S, eventually
from tests.server.harness import Service

TIMEOUT_S = 10.0
HEAD = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n"


class Timer:
    def __init__(self, run: Callable[[], None]):
        self.run, self.cancelled = run, False

    def cancel(self) -> None:
        self.cancelled = True


class Wire:
    """A connection by hand: what goes out, and the timers that run, each with its delay."""

    def __init__(self, connections_max: int = 10, others: int = 0, app: Any = None):
        self.out, self.closed, self.paused = b"", False, False
        self.timers: list[tuple[float, Timer]] = []
        state = ServerState()
        state.connections.update({object() for _ in range(others)})  # type: ignore[misc]
        self.protocol = BoundedProtocol(
            connections_max=connections_max,
            head_timeout_s=TIMEOUT_S,
            unread_s=TIMEOUT_S,
            config=uvicorn.Config(app or _echo, log_config=None, timeout_keep_alive=5),
            server_state=state,
            app_state={},
            _loop=self,
        )
        self.protocol.connection_made(self)  # type: ignore[arg-type]

    def create_task(self, work: Any) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    def call_later(self, delay_s: float, run: Callable[[], None]) -> Timer:
        self.timers.append((delay_s, Timer(run)))
        return self.timers[-1][1]

    def running(self) -> list[tuple[float, Timer]]:
        return [(delay_s, timer) for delay_s, timer in self.timers if not timer.cancelled]

    def write(self, data: bytes) -> None:
        self.out += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/echo":
        while (await receive())["more_body"]:
            pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


async def _streamed(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_head_that_drips_is_408_however_often_a_byte_comes() -> None:
    wire = Wire()
    for byte in HEAD[:40]:
        wire.protocol.data_received(bytes([byte]))
    # One timer, of the connection's begin: bytes neither stop it nor start another.
    [(delay_s, timer)] = wire.timers
    assert (delay_s, timer.cancelled) == (TIMEOUT_S, False)
    timer.run()
    assert wire.closed
    head, _, body = wire.out.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head
    assert json.loads(body)["error"]["details"][0]["reason"] == "HEAD_TIMEOUT"
    wire.protocol.data_received(b"x")
    assert wire.out.endswith(body)


async def test_a_connection_that_says_nothing_is_closed() -> None:
    wire = Wire()
    [(_, timer)] = wire.running()
    timer.run()
    assert wire.closed


async def test_a_whole_head_ends_the_wait_and_the_next_one_has_its_own() -> None:
    wire = Wire()
    wire.protocol.data_received(HEAD)
    assert wire.running() == []
    # The body is bounded by the route that reads it.
    wire.protocol.data_received(b"ab")
    assert wire.running() == []
    wire.protocol.data_received(b"c")
    await _turns()
    assert wire.out.startswith(b"HTTP/1.1 200 ")
    # Idle: uvicorn's keep-alive.
    assert [delay_s for delay_s, _ in wire.running()] == [5]
    wire.protocol.data_received(HEAD[:5])
    assert [delay_s for delay_s, _ in wire.running()] == [TIMEOUT_S]
    wire.protocol.data_received(HEAD[5:] + b"abc")
    await _turns()
    assert [delay_s for delay_s, _ in wire.running()] == [5]
    # Nothing was armed for a head that came in one piece.
    made = len(wire.timers)
    wire.protocol.data_received(HEAD + b"abc")
    await _turns()
    assert len(wire.timers) == made + 1


async def test_a_body_that_goes_on_after_its_answer_is_not_waited_for_for_ever() -> None:
    wire = Wire()
    wire.protocol.data_received(HEAD.replace(b"/echo", b"/none"))
    await _turns()
    assert wire.out.startswith(b"HTTP/1.1 200 ")
    wire.protocol.data_received(b"a")
    wire.protocol.data_received(b"b")
    [(delay_s, timer)] = wire.running()
    assert delay_s == TIMEOUT_S
    timer.run()
    assert wire.closed


async def test_what_is_no_http_behind_an_answer_that_has_begun_ends_the_connection() -> None:
    wire = Wire(app=_streamed)
    wire.protocol.data_received(b"GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    await _turns()
    out = wire.out
    assert out.endswith(b"begun\r\n")
    wire.protocol.data_received(b"no chunk\r\n")
    assert wire.closed
    assert wire.out == out
    wire.protocol.connection_lost(None)
    await _turns()


async def test_a_connection_that_is_lost_leaves_no_timer() -> None:
    wire = Wire()
    wire.protocol.connection_lost(None)
    assert wire.running() == []


async def test_one_connection_too_many_is_told_so_and_closed() -> None:
    assert not Wire(connections_max=3, others=2).closed
    wire = Wire(connections_max=3, others=3)
    assert wire.closed
    assert wire.running() == []
    head = wire.out.partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in head


def test_places_of_connections_that_end_are_free_again(own_gateway: Callable[..., LiveGateway]) -> None:
    gateway = own_gateway(max_connections=2)
    host, _, port = gateway.address.partition(":")

    def begun() -> socket.socket:
        return socket.create_connection((host, int(port)), timeout=HANG_GUARD_S)

    first, second = begun(), begun()
    eventually(lambda: len(gateway.server.server_state.connections) == 2, "both are there")
    with begun() as third:
        assert third.recv(65_536).startswith(b"HTTP/1.1 503 ")
    first.close()
    second.close()
    eventually(lambda: not gateway.server.server_state.connections, "both are gone")
    assert gateway.send("GET", "/healthz").status == 200


def test_a_drip_over_a_real_socket_is_closed(own_gateway: Callable[..., LiveGateway], service: Service) -> None:
    gateway = own_gateway(head_timeout_ms=20)
    host, _, port = gateway.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=HANG_GUARD_S) as drip:
        drip.sendall(b"GET / HTTP/1.1\r\nhost:")
        assert drip.recv(65_536).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json"])
def test_a_prompt_request_passes(path: str, own_gateway: Callable[..., LiveGateway]) -> None:
    assert own_gateway(max_connections=1).send("GET", path).status == 200
