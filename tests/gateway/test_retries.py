"""What is tried again before the HTTP caller hears of it, and what is told at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from recserv.errors import Overloaded, StoreUnavailable
from recserv.gateway.methods import SERVER_STREAMS, UNARY
from recserv.gateway.retries import ATTEMPTS_MAX, FREE_FAILURES, Retries
from recserv.gateway.settings import GatewaySettings
from tests.gateway.support import LiveGateway
from tests.server.harness import Service

UNAVAILABLE, CANCELLED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED
EVENT = {"eventId": "e-1", "eventType": "EVENT_TYPE_VIEW", "sessionId": "s-1", "itemId": "item-1"}


class Failed(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, pushback: str | None = None):
        self._code, self._pushback = code, pushback

    def code(self) -> grpc.StatusCode:
        return self._code

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("grpc-retry-pushback-ms", self._pushback),) if self._pushback is not None else ()


class Calls:
    """Outcomes one after the other, each after `takes_s`, on a clock by hand."""

    def __init__(self, *outcomes: Any, takes_s: float = 0.0, free_failures: int = FREE_FAILURES):
        self.outcomes, self.takes_s, self.now_s = list(outcomes), takes_s, 0.0
        self.given_s: list[float] = []
        self.slept_s: list[float] = []
        self.retries = Retries(lambda: self.now_s, self._sleep, lambda low, high: 1.0, free_failures)

    async def _sleep(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)
        self.now_s += delay_s

    async def _attempt(self, timeout_s: float) -> str:
        self.given_s.append(timeout_s)
        self.now_s += self.takes_s
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    async def run(self, timeout_s: float = 2.0) -> str:
        return await self.retries.call(self._attempt, timeout_s)


@pytest.mark.parametrize("code", [UNAVAILABLE, CANCELLED])
async def test_a_server_that_is_away_for_a_moment_is_not_noticed(code: grpc.StatusCode) -> None:
    calls = Calls(Failed(code), Failed(code), "answer")
    assert await calls.run() == "answer"
    assert calls.slept_s == [0.05, 0.1]
    # What is left of the deadline, and no new one.
    assert calls.given_s == pytest.approx([2.0, 1.95, 1.85])


@pytest.mark.parametrize("code", set(grpc.StatusCode) - {UNAVAILABLE, CANCELLED, grpc.StatusCode.OK})
async def test_anything_else_is_told_at_once(code: grpc.StatusCode) -> None:
    calls = Calls(Failed(code))
    with pytest.raises(Failed):
        await calls.run()
    assert calls.slept_s == []


async def test_a_server_that_stays_away_is_told_after_a_few() -> None:
    calls = Calls(*[Failed(UNAVAILABLE)] * ATTEMPTS_MAX)
    with pytest.raises(Failed):
        await calls.run(60.0)
    assert calls.outcomes == []


async def test_no_attempt_begins_after_half_of_the_deadline() -> None:
    calls = Calls(Failed(UNAVAILABLE), Failed(UNAVAILABLE), "late", takes_s=0.5)
    with pytest.raises(Failed):
        await calls.run(2.0)
    assert len(calls.given_s) == 2
    assert calls.now_s < 2.0


@pytest.mark.parametrize(
    ("pushback", "slept_s"), [("300", [0.3]), ("0", [0.0]), ("1500", None), ("-1", None), ("soon", None)]
)
async def test_the_server_says_when_and_whether(pushback: str, slept_s: list[float] | None) -> None:
    calls = Calls(Failed(UNAVAILABLE, pushback), "answer")
    if slept_s is None:
        with pytest.raises(Failed):
            await calls.run()
    else:
        assert await calls.run() == "answer"
    assert calls.slept_s == (slept_s or [])


async def test_as_many_as_a_gateway_has_in_flight_survive_a_connection_that_breaks_under_them() -> None:
    retries = Retries(sleep=lambda _: asyncio.sleep(0))
    tried: Counter[int] = Counter()

    async def attempt(number: int) -> int:
        # All of them fail before any is tried again.
        await asyncio.sleep(0)
        tried[number] += 1
        if tried[number] < ATTEMPTS_MAX:
            raise Failed(UNAVAILABLE)
        return number

    in_flight = GatewaySettings(target="127.0.0.1:1").max_in_flight
    calls = [retries.call(lambda _, number=number: attempt(number), 2.0) for number in range(in_flight)]  # type: ignore[misc]
    assert await asyncio.gather(*calls) == list(range(in_flight))


async def test_an_outage_is_not_made_worse() -> None:
    calls = Calls(free_failures=10)
    for _ in range(100):
        calls.outcomes = [Failed(UNAVAILABLE)] * ATTEMPTS_MAX
        with pytest.raises(Failed):
            await calls.run()
    # Ten tokens may be spent on second attempts, and then none until calls succeed.
    assert len(calls.given_s) < 100 + 10
    for _ in range(120):
        calls.outcomes = ["answer"]
        await calls.run()
    calls.outcomes = [Failed(UNAVAILABLE), "answer"]
    assert await calls.run() == "answer"


def test_too_many_is_told_at_once_and_a_store_that_is_down_after_a_few_tries(
    gateway: LiveGateway, service: Service
) -> None:
    service.ingestor.error = Overloaded("busy", 1)
    reply = gateway.send("POST", "/api/v1/events", EVENT)
    assert (reply.status, reply.headers["retry-after"], len(service.ingestor.events)) == (429, "1", 1)
    service.reset()
    service.ingestor.error = StoreUnavailable("down", 1)
    reply = gateway.send("POST", "/api/v1/events", EVENT)
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert len(service.ingestor.events) == ATTEMPTS_MAX


def test_events_that_fail_leave_the_retries_of_reads(
    own_gateway: Callable[..., LiveGateway], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = own_gateway()
    service.ingestor.error = StoreUnavailable("down", 1)
    for _ in range(20):
        assert gateway.send("POST", "/api/v1/events", EVENT).status == 503
    recommend, tried = service.recommender.recommend, []

    async def restarting(*given: Any, **named: Any) -> Any:
        tried.append(1)
        if len(tried) < ATTEMPTS_MAX:
            raise StoreUnavailable("in a moment", 1)
        return await recommend(*given, **named)

    monkeypatch.setattr(service.recommender, "recommend", restarting)
    assert gateway.send("GET", "/api/v1/recommendations?session_id=s").status == 200
    assert len(tried) == ATTEMPTS_MAX


def test_a_hint_that_is_later_than_the_deadline_is_told_and_not_waited_out(
    gateway: LiveGateway, service: Service
) -> None:
    service.ingestor.error = StoreUnavailable("down", 3_600_000)
    reply = gateway.send("POST", "/api/v1/events", EVENT)
    assert (reply.status, len(service.ingestor.events)) == (503, 1)


def test_every_rpc_that_streams_has_the_channels_retries() -> None:
    assert "WatchExplanations" in SERVER_STREAMS
    assert not set(SERVER_STREAMS) & set(UNARY)
