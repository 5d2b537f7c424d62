"""What a call costs through the gateway, beside the same call by gRPC, both in turns in the same run.

In front of the server that does nothing, so that what is measured is the way there and back. `-s` shows the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import pytest

from recserv import v1 as pb
from recserv.bench.null_server import BANNER
from tests.patience import HANG_GUARD_S
from tests.processes import read_line

pytestmark = pytest.mark.benchmark

CALLS, ROUNDS = 300, 5
CALLERS, SECONDS = 16, 5.0
RATIO_MAX = 15.0
"""Of p50: it takes 4 to 5 empty calls, also on a busy machine."""
SERVICE = "/recserv.v1.RecommendationService"
EVENT = {"eventType": "EVENT_TYPE_VIEW", "sessionId": "s-1", "itemId": "883404"}
TARGET = "recserv gateway on http://"


@contextmanager
def _process(*arguments: str, banner: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """And its address."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = read_line(process.stdout)
            assert line.startswith(banner)
            yield process, line.removeprefix(banner).strip()
        finally:
            process.terminate()


def _ten_products() -> bytes:
    """As a page of a shop asks for them; an event's answer reads nothing of it."""

    def product(rank: int) -> pb.RecommendResult:
        reason = pb.Reason(type=1, because_item_ids=["883404"], text="Often bought with COFFEE FILTERS in your cart")
        return pb.RecommendResult(item_id=f"88{rank:04}", score=1 / rank, rank=rank, source=2, reasons=[reason])

    results = [product(rank) for rank in range(1, 11)]
    return pb.RecommendResponse(results=results, recommendation_id="r" * 22, model_version="m" * 16).SerializeToString()


@pytest.fixture(scope="module")
def way() -> Iterator[tuple[str, str, int]]:
    """Addresses of a server that answers everything with ten products, and of the gateway to it; its process."""
    code = f"import asyncio; from recserv.bench.null_server import serve; asyncio.run(serve({_ten_products()!r}))"
    gateway = ("-m", "recserv", "gateway", "--listen", "127.0.0.1:0", "--target")
    with (
        _process("-c", code, banner=BANNER) as (_, server),
        _process(*gateway, server, banner=TARGET) as (process, address),
    ):
        yield server, address, process.pid


def _http(address: str, method: str, path: str, body: bytes | None) -> Callable[[], None]:
    connection = HTTPConnection(address, timeout=HANG_GUARD_S)
    headers = {"Content-Type": "application/json"} if body else {}

    def call() -> None:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200

    return call


def _grpc(address: str, method: str, message: Any) -> Callable[[], None]:
    call = grpc.insecure_channel(address).unary_unary(f"{SERVICE}/{method}")
    return lambda: bytes(call(message.SerializeToString())) and None


def _milliseconds(call: Callable[[], None]) -> list[float]:
    taken = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        call()
        taken.append((time.perf_counter() - begun) * 1000)
    return taken


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


RECOMMEND = ("GET", "/api/v1/recommendations?session_id=s-1&page_size=10", None)
INGEST = ("POST", "/api/v1/events", json.dumps({**EVENT, "eventId": "e-1"}).encode())


@pytest.mark.parametrize(
    ("request_", "method", "message"),
    [
        (RECOMMEND, "Recommend", pb.RecommendRequest(session_id="s-1", page_size=10)),
        (INGEST, "IngestEvent", pb.IngestEventRequest(event=pb.Event(event_id="e-1", session_id="s-1", item_id="1"))),
    ],
    ids=["recommendations", "events"],
)
def test_what_the_gateway_adds_to_a_call(request_: Any, method: str, message: Any, way: tuple[str, str, int]) -> None:
    server, gateway, _ = way
    by_http, by_grpc = _http(gateway, *request_), _grpc(server, method, message)
    through, direct = [], []
    for _ in range(ROUNDS):
        direct += _milliseconds(by_grpc)
        through += _milliseconds(by_http)
    told = [(_quantile(one, 0.5), _quantile(one, 0.99)) for one in (direct, through)]
    for name, (p50, p99) in zip(("gRPC", "gateway"), told, strict=True):
        print(f"\n{method} by {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms", end="")
    assert told[1][0] / told[0][0] < RATIO_MAX


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("request_", [RECOMMEND, INGEST], ids=["recommendations", "events"])
def test_requests_a_second_of_a_core(request_: Any, way: tuple[str, str, int]) -> None:
    """By the processor time that the gateway took: whatever else runs on the machine takes none of it."""
    _, gateway, pid = way
    ends_s = time.monotonic() + SECONDS
    counts: list[int] = []

    def caller() -> None:
        call, count = _http(gateway, *request_), 0
        while time.monotonic() < ends_s:
            call()
            count += 1
        counts.append(count)

    begun_cpu_s = _cpu_s(pid)
    callers = [threading.Thread(target=caller) for _ in range(CALLERS)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    used_s = _cpu_s(pid) - begun_cpu_s
    done = sum(counts)
    print(f"\n{request_[1].partition('?')[0]}: {done / SECONDS:.0f}/s, {done / used_s:.0f} a second of processor time")
    assert len(counts) == CALLERS
    assert done / used_s > 200
