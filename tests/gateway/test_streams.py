"""Server-sent events, and pages of other origins."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import pytest

from tests.gateway.support import LiveGateway
from tests.patience import HANG_GUARD_S, eventually
from tests.server.harness import Service

READY = "/api/v1/explanations/ready"


def events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Each with its name; "" is a sign of life."""
    name = ""
    for line in lines:
        if line.startswith(":"):
            yield "", None
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)


def test_each_explanation_is_an_event_and_the_end_is_told(gateway: LiveGateway) -> None:
    reply = gateway.send("GET", READY, x_request_id="r-1")
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (reply.headers["x-request-id"], reply.headers["cache-control"]) == ("r-1", "no-store")
    first, second, last = events(iter(reply.text.splitlines()))
    explanation = {"itemId": "a", "text": "because", "state": "EXPLANATION_STATE_READY"}
    assert first == ("explanation", {"explanation": explanation})
    assert second[1]["explanation"]["state"] == "EXPLANATION_STATE_TEMPLATE"
    assert last == ("end", {})


def test_a_token_that_nobody_knows_is_an_error_and_no_stream(gateway: LiveGateway) -> None:
    reply = gateway.send("GET", "/api/v1/explanations/unknown")
    assert (reply.status, reply.error["status"]) == (404, "NOT_FOUND")


def test_a_reader_that_goes_away_ends_the_call_and_gives_its_place_back(
    own_gateway: Callable[..., LiveGateway], service: Service
) -> None:
    gateway = own_gateway(max_streams=1)
    service.board.hold = threading.Event()
    with gateway.http.stream("GET", READY) as stream:
        # Kept: where its lines are let go of, httpx hangs up.
        told = events(stream.iter_lines())
        assert next(told)[0] == "explanation"
        busy = gateway.send("GET", READY)
        assert (busy.status, busy.detail("ErrorInfo")["reason"]) == (429, "GATEWAY_BUSY")
    eventually(lambda: gateway.send("GET", READY + "x").status == 404, "the place is free")
    service.board.hold.set()
    assert gateway.send("GET", READY).status == 200


def test_a_stream_on_which_nothing_happens_shows_that_it_lives(
    own_gateway: Callable[..., LiveGateway], service: Service
) -> None:
    service.board.hold = threading.Event()
    with own_gateway(heartbeat_ms=1).http.stream("GET", READY) as stream:
        told = events(stream.iter_lines())
        assert any(name == "" for name, _ in told)
        service.board.hold.set()
        assert [name for name, _ in told if name] in (["explanation", "end"], ["explanation", "explanation", "end"])


def test_a_drain_tells_the_readers_and_ends(own_gateway: Callable[..., LiveGateway], service: Service) -> None:
    gateway = own_gateway()
    service.board.hold = threading.Event()
    with gateway.http.stream("GET", READY) as stream:
        told = events(stream.iter_lines())
        assert next(told)[0] == "explanation"
        gateway.drain_soon()
        name, body = next(told)
        assert (name, body["error"]["status"]) == ("error", "UNAVAILABLE")
        assert list(told) == []
    gateway.ended.result(HANG_GUARD_S)
    service.board.hold.set()


def test_a_drain_answers_what_is_in_flight(own_gateway: Callable[..., LiveGateway], service: Service) -> None:
    gateway = own_gateway()
    service.recommender.hold = threading.Event()
    with futures.ThreadPoolExecutor(1) as pool:
        reply = pool.submit(gateway.rpc, "Recommend", {})
        assert service.recommender.entered.acquire(timeout=HANG_GUARD_S)
        gateway.drain_soon()
        service.recommender.hold.set()
        assert reply.result(HANG_GUARD_S).status == 200
    gateway.ended.result(HANG_GUARD_S)


OURS = "https://shop.example"


@pytest.mark.parametrize(("origin", "allowed"), [(OURS, True), ("https://shop.example.evil", False)])
def test_pages_of_named_origins_may_call_and_read_errors_too(
    origin: str, allowed: bool, own_gateway: Callable[..., LiveGateway]
) -> None:
    gateway = own_gateway(allow_origin=(OURS,))
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "content-type,x-request-id"}
    preflight = gateway.send("OPTIONS", "/api/v1/events", origin=origin, **asked)
    assert (preflight.status == 200) is allowed
    for reply in (preflight, gateway.send("POST", "/api/v1/events", {}, origin=origin)):
        assert reply.headers.get("access-control-allow-origin") == (OURS if allowed else None)
        assert "access-control-allow-credentials" not in reply.headers


def test_without_named_origins_no_page_may(gateway: LiveGateway) -> None:
    asked = {"access_control_request_method": "POST", "origin": OURS}
    for reply in (gateway.send("OPTIONS", "/api/v1/events", **asked), gateway.rpc("Recommend", {}, origin=OURS)):
        assert not [name for name in reply.headers if name.startswith("access-control")]
