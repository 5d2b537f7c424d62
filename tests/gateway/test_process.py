"""The gateway as a process of its own."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from recserv import cli
from recserv.client import RecommendationClient
from recserv.types import Event, EventType, RecommendQuery
from tests.patience import HANG_GUARD_S, eventually
from tests.processes import listening
from tests.server.harness import Service
from tests.watches import POPULAR, fake_watches

PATIENT = ("timeout-ms", "timeout-ms-max", "drain-ms", "head-timeout-ms")


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address."""
    patient = [f"--{name}={HANG_GUARD_S * 1000:.0f}" for name in PATIENT]
    command = [sys.executable, "-m", "recserv", "gateway", "--listen", "127.0.0.1:0", *patient, *arguments]
    with listening(command, "recserv gateway on") as started:
        yield started


def _refuses(address: str) -> bool:
    host, _, port = address.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=HANG_GUARD_S).close()
    except ConnectionRefusedError:
        return True
    return False


def test_at_sigterm_what_is_in_flight_is_answered_and_the_process_ends_well(service: Service) -> None:
    service.recommender.hold = threading.Event()
    with started("--target", service.address) as (process, address), futures.ThreadPoolExecutor(1) as pool:
        url = f"{address}/rpc/recserv.v1.RecommendationService/Recommend"
        headers = {"content-type": "application/json"}
        answer = pool.submit(httpx.post, url, headers=headers, timeout=HANG_GUARD_S, trust_env=False)
        assert service.recommender.entered.acquire(timeout=HANG_GUARD_S)
        process.send_signal(signal.SIGTERM)
        eventually(lambda: _refuses(address), "it listens no more")
        service.recommender.hold.set()
        assert len(answer.result(HANG_GUARD_S).json()["results"]) == 3
        _, log = process.communicate(timeout=HANG_GUARD_S)
        assert process.returncode == 0
    assert [json.loads(line)["message"] for line in log.splitlines()] == ["draining", "drained"]


def test_a_port_that_is_taken_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert cli.main(["gateway", "--target", "127.0.0.1:1", "--listen", address]) == 2
    assert f"recserv gateway: cannot listen on {address}" in capsys.readouterr().err


def test_every_problem_of_the_settings_is_a_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gateway", "--listen", "nowhere", "--allow-origin", "*"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("recserv gateway: ") for line in lines)


def test_a_gateway_that_is_killed_harms_no_grpc_caller_and_leaves_nothing_behind() -> None:
    with ExitStack() as stack:
        fake = stack.enter_context(fake_watches())
        process, address = stack.enter_context(started("--target", fake.address))
        caller = stack.enter_context(RecommendationClient(fake.address, timeout_s=HANG_GUARD_S))
        watch = caller.watch_recommendations(RecommendQuery(session_id="s"))
        assert [result.item_id for result in next(watch).results] == [*POPULAR]
        http = stack.enter_context(httpx.Client(base_url=address, timeout=HANG_GUARD_S, trust_env=False))
        lines = stack.enter_context(http.stream("GET", "/api/v1/watch?session_id=s")).iter_lines()
        assert "event: recommendations" in lines
        process.kill()
        with pytest.raises(httpx.TransportError):
            list(lines)
        assert fake.closed.acquire(timeout=HANG_GUARD_S)
        assert caller.ingest(Event(event_id="1", event_type=EventType.VIEW, session_id="s", item_id="a"))
        assert [result.item_id for result in next(watch).results] == ["a", *POPULAR]
        # One of the reader, one of the caller: it had not to be taken up again.
        assert len(fake.requests) == 2
