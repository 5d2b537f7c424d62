"""The status page: what it says, what it never lets through, and how little it asks of whom."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from recserv.gateway.figures import Seen
from recserv.gateway.scrapes import PAGE_BYTES_MAX, Limits, Sampler, Scraped
from recserv.gateway.status_page import ROWS_MAX, page_html
from recserv.metrics import EventMetrics, Metrics, PipelineMetrics
from recserv.metrics.listener import MetricsListener
from recserv.types import DegradedReason, EventType, Source
from tests.gateway.support import LiveGateway, free_port
from tests.gateway.test_figures import page, requests, seen
from tests.patience import HANG_GUARD_S, eventually_async

PATIENT = Limits(every_s=0.001, looked_s=HANG_GUARD_S, fetch_s=HANG_GUARD_S)
NOW_S = 1_700_000_000.0
VOID = {"meta", "rect", "polygon", "polyline"}


class Elements(HTMLParser):
    """Well-formed or an AssertionError; its text by element."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data + " "


def served(version: str = "v-7", built_ms: int = round(NOW_S - 7_200) * 1_000) -> Metrics:
    metrics = Metrics()
    metrics.model(version, built_ms)
    return metrics


def busy(metrics: Metrics) -> None:
    pipeline, events = PipelineMetrics(metrics), EventMetrics(metrics)
    for _ in range(100):
        metrics.rpc("Recommend")("OK", 0.004)
        pipeline.stage("state", 0.001)
    metrics.rpc("IngestEvent")("UNAVAILABLE", 0.2)
    pipeline.degraded(DegradedReason.STATE_UNAVAILABLE)
    pipeline.source(Source.COVISITATION, 30)
    pipeline.source(Source.POPULAR, 10)
    events.outcome(EventType.VIEW, "duplicate")


def text_of(*seen_: Seen) -> str:
    return re.sub(r"\s+", " ", Elements(page_html(seen_, NOW_S)).text)


def test_the_page_says_what_happened_in_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW_S)
    metrics = served()
    before = page(metrics.registry)
    busy(metrics)
    text = text_of(seen((0.0, before), (10.0, page(metrics.registry)), address="shop:9464"))
    for words in (
        "Rates are of the last 10 s, as of 22:13:20 UTC",
        "Requests 10.1/s all RPCs",
        "Errors 1.0% not the caller's doing",
        "Recommend p99 4.98 ms in the handler",
        "Degraded 1.0% by the commonest reason",
        "Model built 2 h ago; 1 version served",
        "Workers 1 on 1 of 1 server",
        "Recommend OK 10 3.75 ms 4.98 ms",
        "IngestEvent UNAVAILABLE 0.1 175 ms 248 ms",
        "state 10 750 µs 995 µs",
        "covisitation 3 75.0%",
        "popular 1 25.0%",
        "state_unavailable 0.1 1.0%",
        "duplicate 0.1 100%",
        "v-7",
    ):
        assert words in text
    assert "does not" not in text


def test_streams_that_a_server_ended_when_it_drained_are_no_errors_and_how_long_they_were_open_is_no_latency() -> None:
    metrics = served()
    before = page(metrics.registry)
    metrics.rpc("Recommend")("OK", 0.004)
    for _ in range(9):
        metrics.rpc("WatchRecommendations")("UNAVAILABLE", 3_000.0)
    text = text_of(seen((0.0, before), (10.0, page(metrics.registry))))
    assert "Errors 0%" in text
    assert "WatchRecommendations UNAVAILABLE 0.9 " in text
    assert "10 s" not in text.partition("Requests by RPC")[2].partition("Latency by stage")[0]


def test_before_there_are_two_samples_it_says_that_rates_are_to_come() -> None:
    text = text_of(seen((0.0, page(served().registry))))
    assert "Rates are to come with the next samples" in text
    assert "v-7" in text


def test_a_server_that_does_not_answer_is_named_beside_those_that_do() -> None:
    well, ill = seen((0.0, page(served().registry))), Seen("b:1", (), "cannot be connected to")
    text = text_of(well, ill)
    assert "b:1 cannot be connected to." in text
    assert "v-7" in text
    assert "Workers 1 on 1 of 2 servers" in text
    assert "What is shown of it is older." in text_of(well._replace(problem="breaks off its answer"))


def test_workers_have_a_row_each() -> None:
    values = {
        ("recserv_workers_ready", ()): 2.0,
        **{("process_resident_memory_bytes", (("worker", name),)): 3e8 for name in ("parent", "1-1", "1-2")},
        **{("recserv_model_info", (("version", "v-7"), ("worker", name))): 1.0 for name in ("1-1", "1-2")},
    }
    text = text_of(seen((0.0, values), address="a:1"))
    assert "Workers 2 on 1 of 1 server" in text
    for name in ("parent", "1-1", "1-2"):
        assert f"a:1 {name} \N{EN DASH} 300 MB" in text


HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style></table>", "&lt;", "x" * 10_000]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_server_says_is_text(hostile: str) -> None:
    values = {
        ("recserv_breaker_state", (("breaker", hostile),)): 2.0,
        ("recserv_model_info", (("version", hostile),)): 1.0,
        ("process_resident_memory_bytes", (("worker", hostile),)): 1.0,
        requests(hostile, hostile): 0.0,
        ("recserv_results_total", (("source", hostile),)): 0.0,
        ("recserv_stage_duration_seconds_bucket", (("le", hostile), ("stage", hostile))): 0.0,
    }
    more = {key: value + 5.0 for key, value in values.items()}
    html = page_html([Seen(hostile, seen((0.0, values), (10.0, more)).samples, hostile)], NOW_S)
    page_ = Elements(html)
    assert "script" not in page_.tags
    assert "img" not in page_.tags
    assert {name for name in page_.attributes if name.startswith("on") or name in ("src", "href", "style")} == set()
    assert hostile[:12] in page_.text


def test_values_that_nobody_has_make_a_page_all_the_same() -> None:
    gauges = ("workers_ready", "model_age_seconds", "breaker_state", "in_flight_requests")
    processes = ("process_resident_memory_bytes", "process_start_time_seconds")
    names = [requests(), *((name, ()) for name in (*(f"recserv_{gauge}" for gauge in gauges), *processes))]
    for value in (float("nan"), float("inf"), float("-inf"), -1e308, 1e308):
        values = dict.fromkeys(names, value)
        Elements(page_html([seen((0.0, {}), (1.0, values), (2.0, values))], NOW_S))


def test_a_table_has_so_many_rows_and_says_how_many_more_there_are() -> None:
    values = {requests(rpc=f"R{n}"): 9.0 for n in range(ROWS_MAX + 7)}
    text = text_of(seen((0.0, {}), (1.0, values)))
    assert "And 7 more." in text
    assert text.count(" OK ") == ROWS_MAX


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server that does with each request what it is told; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(HANG_GUARD_S)


def with_body(body: bytes, status: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        # Whoever asked may have heard enough.
        try:
            handler.wfile.write(body)
        except ConnectionError:
            handler.close_connection = True

    return answer


async def looked_at(address: str, limits: Limits = PATIENT) -> Seen:
    draining = asyncio.Event()
    sampler = Sampler([address], draining, limits)
    [found] = await sampler.look()
    draining.set()
    await eventually_async(lambda: sampler._sampling is None)
    return found


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (with_body(b"# nothing\n"), "has no metrics of recserv"),
        (with_body(b"<!doctype html>"), "answers with something else than metrics"),
        (with_body(b"no", 500), "answers with HTTP status 500"),
        (with_body(b"", 302), "answers with HTTP status 302"),
        (with_body(b"#" * (PAGE_BYTES_MAX + 1)), "answers with more than 2 MiB"),
        (
            lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
            "breaks off its answer",
        ),
        (lambda handler: handler.wfile.write(b"\0\1\2\r\n\r\n"), "breaks off its answer"),
    ],
)
async def test_an_answer_that_is_of_no_use_is_said_in_words(
    answer: Callable[[BaseHTTPRequestHandler], None], words: str
) -> None:
    with answering(answer) as address:
        assert (await looked_at(address)).problem == words


async def test_nobody_there_is_said_in_words() -> None:
    assert (await looked_at(f"127.0.0.1:{free_port()}")).problem == "cannot be connected to"


async def test_who_never_answers_is_given_up_and_asked_again_without_a_second_request_beside() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        found = await looked_at(address, PATIENT._replace(fetch_s=0.01))
        assert found.problem == "does not answer within 0.01 s"
        assert found.samples == ()


async def test_a_name_that_nobody_looks_up_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    hold, asked = threading.Event(), []

    def stuck(host: Any, *given: Any, **named: Any) -> Any:
        asked.append(host)
        hold.wait(HANG_GUARD_S)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    # One thread for all that the loop has done elsewhere.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    scraped = Scraped("shop.invalid:9464", PATIENT)
    try:
        for number in range(3):
            given_up = asyncio.create_task(scraped.sample(lambda: 0.0, number))
            await eventually_async(lambda: len(asked) == 1)
            given_up.cancel()
        others = asyncio.create_task(asyncio.to_thread(int))
        await eventually_async(others.done)
        assert asked == ["shop.invalid"]
    finally:
        hold.set()
    await scraped.sample(lambda: 0.0, 3)
    assert scraped.seen.problem == "cannot be connected to"


async def test_a_name_is_tried_at_all_of_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = MetricsListener(served(), "127.0.0.1", 0)
    port = int(listener.address.rpartition(":")[2])
    found = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (at, port)) for at in ("::1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    scraped = Scraped(f"shop.invalid:{port}", PATIENT)
    try:
        await scraped.sample(lambda: 0.0, 0)
        assert (scraped.seen.problem, len(scraped.seen.samples)) == ("", 1)
    finally:
        await scraped.close()
        await asyncio.to_thread(listener.close)


async def test_samples_are_taken_while_somebody_looks_and_forgotten_when_nobody_does() -> None:
    now_s = 0.0
    listener = MetricsListener(served(), "127.0.0.1", 0)
    draining = asyncio.Event()
    sampler = Sampler([listener.address], draining, PATIENT, clock=lambda: now_s)
    try:
        await sampler.look()
        await eventually_async(lambda: sampler.rounds >= 3)
        [found] = await sampler.look()
        assert len(found.samples) >= 3
        assert found.problem == ""
        # Nobody looks any more.
        now_s = HANG_GUARD_S + 1
        await eventually_async(lambda: sampler._sampling is None)
        ended = sampler.rounds
        await asyncio.sleep(0.02)
        assert sampler.rounds == ended
        [found] = await sampler.look()
        assert len(found.samples) == 1
        # What is older than a minute goes.
        now_s += 61
        await eventually_async(lambda: all(one.at_s == now_s for one in sampler._scraped[0].seen.samples))
    finally:
        draining.set()
        await eventually_async(lambda: sampler._sampling is None)
        await asyncio.to_thread(listener.close)


async def test_many_who_look_at_once_make_one_request() -> None:
    asked, hold = [], threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        hold.wait(HANG_GUARD_S)
        with_body(b"recserv_workers_ready 3\n")(handler)

    with answering(answer) as address:
        draining = asyncio.Event()
        sampler = Sampler([address], draining, PATIENT._replace(every_s=HANG_GUARD_S))
        looks = [asyncio.ensure_future(sampler.look()) for _ in range(50)]
        await eventually_async(lambda: asked)
        hold.set()
        found = await asyncio.gather(*looks)
        assert asked == ["/metrics"]
        assert {one.samples[0].values["recserv_workers_ready", ()] for [one] in found} == {3.0}
        draining.set()
        await eventually_async(lambda: sampler._sampling is None)


def test_without_addresses_there_is_no_page(gateway: LiveGateway) -> None:
    assert gateway.send("GET", "/status").status == 404


def test_the_gateway_serves_the_page_under_a_policy_that_lets_nothing_else_in(
    own_gateway: Callable[..., LiveGateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recserv.gateway.scrapes.Limits", lambda: PATIENT)
    listener = MetricsListener(served(), "127.0.0.1", 0)
    try:
        gateway = own_gateway(metrics=(listener.address, f"127.0.0.1:{free_port()}"))
        reply = gateway.send("GET", "/status")
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert reply.headers["cache-control"] == "no-store"
        policy = dict(part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        [style] = re.findall(r"<style>(.*?)</style>", reply.text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert policy["style-src"] == f"'sha256-{digest}'"
        page_ = Elements(reply.text)
        assert "http:" not in reply.text
        assert "v-7" in page_.text
        assert "cannot be connected to" in page_.text
        assert gateway.send("POST", "/status").status == 405
    finally:
        listener.close()
