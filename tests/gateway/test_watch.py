"""/api/v1/watch in front of a server that keeps the contract of WatchRecommendations."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf import json_format

from recserv import v1 as pb
from recserv.gateway import watch
from recserv.gateway.front import Places
from recserv.gateway.sse import TRANSPORT, Pace
from recserv.gateway.watch import WatchStream
from tests.gateway.support import LiveGateway, gateway_to
from tests.patience import HANG_GUARD_S, eventually, eventually_async
from tests.proxy import TcpProxy
from tests.server.harness import Service
from tests.watches import POPULAR, Failure, FakeWatches, fake_watches, token_of

PATH = "/api/v1/watch"
OF_S = f"{PATH}?session_id=s"
DOWN = Failure(grpc.StatusCode.UNAVAILABLE, retry_ms=5_000)
ATTEMPTS = 4
"""Of a call, by the channel's own retries."""


class Told(NamedTuple):
    event: str
    id: str = ""
    retry_ms: int = 0
    data: Any = None

    @property
    def items(self) -> tuple[str, ...]:
        response = json_format.ParseDict(self.data, pb.WatchRecommendationsResponse()).response
        return tuple(result.item_id for result in response.results)


def told_by(lines: Iterator[str]) -> Iterator[Told]:
    """Each event, as an EventSource reads them; "alive" is a sign of life, "head" a retry that comes by itself."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            yield Told("alive")
        elif line:
            key, _, value = line.partition(": ")
            fields[key] = value
        elif fields:
            data = json.loads(fields.get("data", "null"))
            yield Told(fields.get("event", "head"), fields.get("id", ""), int(fields.get("retry", 0)), data)
            fields = {}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is: what fails fails before the stream begins."""
    monkeypatch.setattr(watch, "_HEAD_AFTER_S", HANG_GUARD_S)


@pytest.fixture
def fake() -> Iterator[FakeWatches]:
    with fake_watches() as served:
        yield served


@pytest.fixture
def make(fake: FakeWatches, service: Service) -> Iterator[Callable[..., LiveGateway]]:
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(gateway_to(fake.address, service._loop, **settings))


def test_the_list_is_an_event_at_once_and_whenever_it_changed(
    make: Callable[..., LiveGateway], fake: FakeWatches
) -> None:
    headers = {"x-request-id": "r-1", "x-recserv-priority": "high"}
    with make().http.stream("GET", f"{OF_S}&pageSize=7&anchor_item_ids=x", headers=headers) as stream:
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (stream.headers["x-request-id"], stream.headers["cache-control"]) == ("r-1", "no-store")
        told = told_by(stream.iter_lines())
        head, first = next(told), next(told)
        assert (head.event, 1_000 <= head.retry_ms <= 2_000) == ("head", True)
        assert (first.event, first.id, first.items) == ("recommendations", token_of(POPULAR), POPULAR)
        fake.change("s", "a")
        second = next(told)
        assert (second.id, second.items) == (token_of(("a", *POPULAR)), ("a", *POPULAR))
        assert second.data["resumeToken"] == second.id
    [asked] = fake.requests
    assert (asked.request.page_size, list(asked.request.anchor_item_ids), asked.request.request_id) == (7, ["x"], "r-1")
    assert (fake.metadata[0]["x-request-id"], fake.metadata[0]["x-recserv-priority"]) == ("r-1", "high")


def test_a_reader_that_is_no_event_source_posts_its_request(
    make: Callable[..., LiveGateway], fake: FakeWatches
) -> None:
    gateway = make()
    body = {"request": {"sessionId": "s", "userAttributes": {"a": "b"}}, "resumeToken": token_of(("old",))}
    headers = {"content-type": "application/json"}
    with gateway.http.stream("POST", PATH, content=json.dumps(body), headers=headers) as stream:
        told = told_by(stream.iter_lines())
        assert (next(told).event, next(told).items) == ("head", POPULAR)
    [asked] = fake.requests
    assert (asked.request.user_attributes["a"], asked.resume_token) == ("b", token_of(("old",)))
    assert gateway.send("POST", PATH, {"request": {"page": 1}}).fields() == ["request.page"]
    assert gateway.send("POST", PATH, {}).fields() == ["request.session_id"]
    assert gateway.send("HEAD", OF_S).status == 405


@pytest.mark.parametrize(
    ("query", "header", "resumed"),
    [("", "t-1", "t-1"), ("&last_event_id=t-2", "", "t-2"), ("&last_event_id=t-2", "t-1", "t-1")],
)
def test_the_last_id_takes_the_watch_up_and_the_header_is_the_newer_one(
    query: str, header: str, resumed: str, make: Callable[..., LiveGateway], fake: FakeWatches
) -> None:
    with make().http.stream("GET", OF_S + query, headers={"last-event-id": header}) as stream:
        told = told_by(stream.iter_lines())
        assert (next(told).event, next(told).items) == ("head", POPULAR)
    assert [request.resume_token for request in fake.requests] == [resumed]


def test_a_watch_that_has_nothing_to_say_yet_is_open_all_the_same(
    make: Callable[..., LiveGateway], fake: FakeWatches
) -> None:
    gateway = make(heartbeat_ms=1)
    with gateway.http.stream("GET", OF_S, headers={"last-event-id": token_of(POPULAR)}) as stream:
        told = told_by(stream.iter_lines())
        assert [next(told).event for _ in range(3)] == ["head", "alive", "alive"]
        fake.change("s", "a")
        assert next(one for one in told if one.event != "alive").items == ("a", *POPULAR)


def test_what_fails_before_the_first_event_has_its_status(make: Callable[..., LiveGateway], fake: FakeWatches) -> None:
    gateway = make()
    assert gateway.send("GET", f"{OF_S}&page_size=ten").fields() == ["page_size"]
    assert gateway.send("GET", f"{OF_S}&bogus=1").fields() == ["bogus"]
    assert fake.requests == []
    missing = gateway.send("GET", PATH)
    assert (missing.status, missing.fields()) == (400, ["request.session_id"])
    assert gateway.send("GET", OF_S, last_event_id="nonsense").fields() == ["resume_token"]
    fake.failures = [Failure(grpc.StatusCode.UNIMPLEMENTED), *[DOWN._replace(retry_ms=1_001)] * ATTEMPTS]
    assert gateway.send("GET", OF_S).status == 501
    down = gateway.send("GET", OF_S)
    assert (down.status, down.headers["retry-after"]) == (503, "2")


def test_a_reader_that_comes_back_is_told_of_what_passes_in_a_stream(
    make: Callable[..., LiveGateway], fake: FakeWatches
) -> None:
    # An EventSource gives up for good at another status.
    gateway = make()
    fake.failures = [DOWN] * ATTEMPTS
    reply = gateway.send("GET", OF_S, last_event_id=token_of(POPULAR))
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    [told] = told_by(iter(reply.text.splitlines()))
    assert (told.event, told.data["error"]["status"]) == ("error", "UNAVAILABLE")
    assert 5_000 <= told.retry_ms <= 10_000


def test_a_server_that_stops_before_it_begins_is_away_and_no_callers_doing(
    make: Callable[..., LiveGateway], fake: FakeWatches
) -> None:
    # gRPC's own CANCELLED: as 499 an EventSource would never come back.
    gateway = make()
    fake.failures = [Failure(grpc.StatusCode.CANCELLED)] * (2 * ATTEMPTS)
    away = gateway.send("GET", OF_S)
    assert (away.status, away.headers["retry-after"], away.error["status"]) == (503, "1", "UNAVAILABLE")
    back = gateway.send("GET", OF_S, last_event_id=token_of(POPULAR))
    assert (back.status, back.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


def test_a_reader_that_goes_away_frees_its_call_and_its_place(
    make: Callable[..., LiveGateway], fake: FakeWatches
) -> None:
    gateway = make(max_watches=1, max_streams=1)
    with gateway.http.stream("GET", OF_S) as stream:
        told = told_by(stream.iter_lines())
        assert (next(told).event, next(told).items) == ("head", POPULAR)
        busy = gateway.send("GET", OF_S)
        assert (busy.status, busy.detail("ErrorInfo")["reason"]) == (429, "GATEWAY_BUSY")
        # Those that come back wait for a place without giving up; explanations have places of their own.
        assert "event: error\nretry: " in gateway.send("GET", OF_S, last_event_id="t-1").text
        assert gateway.send("GET", "/api/v1/explanations/x").status == 501
    assert fake.closed.acquire(timeout=HANG_GUARD_S)
    eventually(lambda: gateway.send("GET", PATH).status == 400, "the place is free")


def test_a_reader_that_takes_nothing_any_more_frees_its_call_and_its_place(
    make: Callable[..., LiveGateway], fake: FakeWatches
) -> None:
    gateway = make(max_watches=1, heartbeat_ms=1, unread_ms=300)
    host, port = gateway.address.split(":")
    with socket.socket() as raw:
        raw.settimeout(HANG_GUARD_S)
        # Full after a few signs of life.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        raw.connect((host, int(port)))
        raw.sendall(f"GET {OF_S} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert fake.closed.acquire(timeout=HANG_GUARD_S)
        eventually(lambda: gateway.send("GET", PATH).status == 400, "the place is free")


def test_a_reader_that_goes_away_before_the_first_event_frees_its_call(
    make: Callable[..., LiveGateway], fake: FakeWatches
) -> None:
    host, port = make().address.split(":")
    with socket.create_connection((host, int(port)), timeout=HANG_GUARD_S) as raw:
        raw.sendall(f"GET {OF_S} HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {token_of(POPULAR)}\r\n\r\n".encode())
        assert fake.opened.acquire(timeout=HANG_GUARD_S)
    assert fake.closed.acquire(timeout=HANG_GUARD_S)


@pytest.mark.parametrize("failure", [DOWN, Failure(grpc.StatusCode.UNAVAILABLE), Failure(grpc.StatusCode.INTERNAL)])
def test_the_end_of_the_call_is_an_event_and_the_end_of_the_stream(
    failure: Failure, make: Callable[..., LiveGateway], fake: FakeWatches
) -> None:
    with make().http.stream("GET", OF_S) as stream:
        told = told_by(stream.iter_lines())
        assert (next(told).event, next(told).items) == ("head", POPULAR)
        fake.end_all(failure)
        [error] = told
        assert (error.event, error.data["error"]["status"]) == ("error", failure.code.name)
        assert error.retry_ms >= (failure.retry_ms or 1_000)


def test_a_drain_ends_the_streams(make: Callable[..., LiveGateway], fake: FakeWatches) -> None:
    gateway = make()
    with gateway.http.stream("GET", OF_S) as stream:
        told = told_by(stream.iter_lines())
        assert (next(told).event, next(told).items) == ("head", POPULAR)
        gateway.drain_soon()
        [error] = told
        assert (error.event, error.data["error"]["status"]) == ("error", "UNAVAILABLE")
    gateway.ended.result(HANG_GUARD_S)
    assert fake.closed.acquire(timeout=HANG_GUARD_S)


def test_streams_hold_up_no_call(service: Service) -> None:
    # Without connections of their own the event would wait for the stream's end.
    with fake_watches(calls_per_connection=1) as fake, ExitStack() as stack:
        gateway = stack.enter_context(gateway_to(fake.address, service._loop))
        told = told_by(stack.enter_context(gateway.http.stream("GET", OF_S)).iter_lines())
        assert (next(told).event, next(told).items) == ("head", POPULAR)
        assert gateway.send("POST", "/api/v1/events", {"sessionId": "s", "itemId": "a"}).status == 200
        assert next(told).items == ("a", *POPULAR)


def test_a_server_that_is_lost_ends_the_stream_so_that_its_reader_comes_back(
    fake: FakeWatches, service: Service
) -> None:
    with TcpProxy("127.0.0.1", int(fake.address.rpartition(":")[2])) as proxy, ExitStack() as stack:
        gateway = stack.enter_context(gateway_to(proxy.address, service._loop))
        told = told_by(stack.enter_context(gateway.http.stream("GET", OF_S)).iter_lines())
        assert (next(told).event, next(told).items) == ("head", POPULAR)
        proxy.drop_connections()
        [error] = told
        assert error.data["error"]["status"] == "UNAVAILABLE"
        assert "127.0.0.1" not in error.data["error"]["message"]


def test_pages_of_named_origins_may_say_where_they_were(make: Callable[..., LiveGateway]) -> None:
    ours = "https://shop.example"
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "content-type,last-event-id"}
    assert make(allow_origin=(ours,)).send("OPTIONS", PATH, origin=ours, **asked).status == 200


class _Call:
    """Always has another answer. `reads`: those that were asked for."""

    def __init__(self) -> None:
        self.reads, self.cancelled = 0, False

    async def read(self) -> pb.WatchRecommendationsResponse:
        self.reads += 1
        return pb.WatchRecommendationsResponse(resume_token=f"t-{self.reads}")

    def cancel(self) -> None:
        self.cancelled = True


class _Transport:
    def __init__(self) -> None:
        self.limits: list[int | None] = []

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None) -> None:
        self.limits.append(high)


async def test_nothing_is_read_ahead_of_a_slow_reader() -> None:
    call, places, transport = _Call(), Places(1), _Transport()
    places.__enter__()
    taken = asyncio.Semaphore(0)
    written: list[bytes] = []

    async def send(message: Any) -> None:
        # As a server does whose socket is full: it waits before the next piece, also an empty one.
        if len(written) > 1:
            await taken.acquire()
        written.append(message.get("body", b""))

    gone: asyncio.Future[None] = asyncio.Future()
    first = asyncio.ensure_future(call.read())
    await asyncio.wait({first})
    stream = WatchStream(call, first, gone, places, Pace(HANG_GUARD_S, HANG_GUARD_S), asyncio.Event())
    task = asyncio.ensure_future(stream({"state": {TRANSPORT: transport}}, None, send))  # type: ignore[arg-type]
    await eventually_async(lambda: len(written) == 2)
    for _ in range(50):
        await asyncio.sleep(0)
    assert (call.reads, transport.limits) == (1, [0])
    for reads in (2, 3):
        # One for what is written, one for what follows once it has been taken.
        taken.release()
        taken.release()
        await eventually_async(lambda reads=reads: call.reads == reads)  # type: ignore[misc]
        for _ in range(50):
            await asyncio.sleep(0)
        assert call.reads == reads
    gone.set_result(None)
    taken.release()
    taken.release()
    await task
    assert (call.cancelled, places.taken, transport.limits) == (True, 0, [0, None])
