"""What a client does with a server that fails: gRPC's retries under our service config, and hedging."""

from __future__ import annotations

import time

import grpc
import pytest

from recserv.client import AsyncRecommendationClient, CallFailed, ClientOptions, RecommendationClient, StreamOptions
from recserv.client.options import RETRIED_METHODS, channel_target, service_config
from recserv.errors import Overloaded, UsageError
from recserv.types import Event, EventType, RecommendQuery
from recserv.v1 import recommendation_pb2 as pb
from tests.client.scripted import ScriptedServer, Step, scripted

DOWN = Step(grpc.StatusCode.UNAVAILABLE)
BUSY = grpc.StatusCode.RESOURCE_EXHAUSTED
QUICK = ClientOptions(timeout_s=10.0, backoff_s=0.01, backoff_s_max=0.02)
EVENT = Event(event_id="1", event_type=EventType.VIEW, session_id="s", item_id="i")


def _ask(server: ScriptedServer, options: ClientOptions = QUICK) -> str:
    with RecommendationClient(server.address, options=options) as client:
        return client.recommend(RecommendQuery(session_id="s")).model_version


def test_every_method_but_the_event_stream_is_retried() -> None:
    methods = set(pb.DESCRIPTOR.services_by_name["RecommendationService"].methods_by_name)
    assert methods - set(RETRIED_METHODS) == {"StreamEvents"}
    assert set(RETRIED_METHODS) < methods


def test_a_server_that_is_away_for_a_moment_is_asked_again() -> None:
    with scripted(DOWN, DOWN) as server:
        assert _ask(server) == "scripted"
        assert len(server.attempts_s) == 3


def test_an_event_is_sent_again_too_since_it_counts_once() -> None:
    with scripted(DOWN) as server, RecommendationClient(server.address, options=QUICK) as client:
        client.ingest(EVENT)
        assert len(server.attempts_s) == 2


def test_attempts_are_bounded_and_the_last_failure_is_told() -> None:
    with scripted(*[DOWN] * 10) as server:
        with pytest.raises(CallFailed) as caught:
            _ask(server)
        assert (caught.value.code, len(server.attempts_s)) == ("UNAVAILABLE", QUICK.attempts_max)


def test_retries_can_be_turned_off() -> None:
    with scripted(DOWN) as server:
        with pytest.raises(CallFailed):
            _ask(server, ClientOptions(attempts_max=1))
        assert len(server.attempts_s) == 1
    assert "retryPolicy" not in service_config(ClientOptions(attempts_max=1))["methodConfig"][0]


def test_a_busy_server_is_asked_again_when_it_said_not_before() -> None:
    with scripted(Step(BUSY, pushback_ms=300)) as server:
        assert _ask(server) == "scripted"
        first_s, second_s = server.attempts_s
        assert second_s - first_s >= 0.29


def test_a_busy_server_that_wants_no_retry_gets_none() -> None:
    with scripted(Step(BUSY, pushback_ms=-1)) as server:
        with pytest.raises(Overloaded) as caught:
            _ask(server)
        assert isinstance(caught.value, CallFailed)
        assert (caught.value.code, caught.value.retry_after_s, len(server.attempts_s)) == (BUSY.name, None, 1)


def test_the_servers_delay_is_told_to_the_caller() -> None:
    with scripted(Step(BUSY, pushback_ms=250)) as server, pytest.raises(Overloaded) as caught:
        _ask(server, ClientOptions(attempts_max=1))
    assert caught.value.retry_after_ms == 250


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT])
def test_other_failures_are_not_retried(code: grpc.StatusCode) -> None:
    with scripted(Step(code)) as server:
        with pytest.raises(CallFailed):
            _ask(server)
        assert len(server.attempts_s) == 1


def test_when_everything_fails_retries_stop() -> None:
    options = ClientOptions(timeout_s=10.0, backoff_s=0.01, backoff_s_max=0.01, retry_tokens=10)
    calls = 30
    with scripted(*[DOWN] * 500) as server, RecommendationClient(server.address, options=options) as client:
        for _ in range(calls):
            with pytest.raises(CallFailed):
                client.recommend(RecommendQuery(session_id="s"))
        # Below half of the tokens nothing is tried again: at most ten failures before that.
        assert calls <= len(server.attempts_s) <= calls + options.retry_tokens


def test_retries_stay_inside_the_deadline() -> None:
    with scripted(Step(BUSY, pushback_ms=60_000)) as server:
        began_s = time.monotonic()
        with pytest.raises(CallFailed):
            _ask(server, ClientOptions(timeout_s=0.3))
        assert time.monotonic() - began_s < 10.0
        assert len(server.attempts_s) == 1


def test_hedging_is_off_unless_asked_for() -> None:
    with scripted(Step(delay_s=0.3)) as server:
        assert _ask(server) == "scripted"
        assert len(server.attempts_s) == 1


def test_a_slow_read_is_sent_a_second_time_and_the_first_answer_counts() -> None:
    with scripted(Step(delay_s=5.0)) as server:
        began_s = time.monotonic()
        assert _ask(server, ClientOptions(timeout_s=10.0, hedge_after_s=0.05)) == "scripted"
        assert time.monotonic() - began_s < 4.0
        assert len(server.attempts_s) == 2


def test_a_hedge_that_fails_leaves_the_other_call_its_time() -> None:
    options = ClientOptions(timeout_s=10.0, hedge_after_s=0.05, attempts_max=1)
    with scripted(Step(delay_s=0.4), Step(grpc.StatusCode.INTERNAL)) as server:
        assert _ask(server, options) == "scripted"
        assert len(server.attempts_s) == 2


def test_events_are_never_hedged() -> None:
    options = ClientOptions(timeout_s=10.0, hedge_after_s=0.02)
    with scripted(Step(delay_s=0.2)) as server, RecommendationClient(server.address, options=options) as client:
        client.ingest(EVENT)
        assert len(server.attempts_s) == 1


async def test_the_asyncio_client_hedges_alike() -> None:
    options = ClientOptions(timeout_s=10.0, hedge_after_s=0.05, attempts_max=1)
    with scripted(Step(delay_s=0.4), Step(grpc.StatusCode.INTERNAL), Step(delay_s=5.0)) as server:
        async with AsyncRecommendationClient(server.address, options=options) as client:
            for attempts in (2, 4):
                assert (await client.recommend(RecommendQuery(session_id="s"))).model_version == "scripted"
                assert len(server.attempts_s) == attempts


async def test_the_asyncio_client_retries_alike() -> None:
    with scripted(DOWN, Step(BUSY, pushback_ms=20)) as server:
        async with AsyncRecommendationClient(server.address, options=QUICK) as client:
            assert (await client.recommend(RecommendQuery(session_id="s"))).model_version == "scripted"
        assert len(server.attempts_s) == 3


def test_calls_go_round_robin_over_several_servers_and_past_one_that_is_gone() -> None:
    with scripted() as one, scripted() as other:
        with scripted() as gone:
            targets = [one.address, other.address, gone.address]
        with RecommendationClient(targets, options=QUICK) as client:
            for _ in range(20):
                client.recommend(RecommendQuery(session_id="s"))
        assert min(len(one.attempts_s), len(other.attempts_s)) >= 5


def test_targets_are_checked() -> None:
    assert channel_target("shop.example:1") == channel_target(["shop.example:1"]) == "shop.example:1"
    assert channel_target(["10.0.0.1:1", "10.0.0.2:1"]) == "ipv4:10.0.0.1:1,10.0.0.2:1"
    for target in ("[::1]:50051", "dns:///shop.example:1", "dns:shop.example:1", "unix:shop.socket", "xds:///shop"):
        assert channel_target(target) == target
    assert channel_target("shop.example", tls=True) == "shop.example"
    assert channel_target(["[::1]:1", "[::2]:1"]) == "ipv6:[::1]:1,[::2]:1"
    for bad in (["a:1", "b:1"], ["10.0.0.1:1", "[::1]:1"], []):
        with pytest.raises(UsageError):
            channel_target(bad)


@pytest.mark.parametrize("wrong", [{"attempts_max": 6}, {"timeout_s": 0.0}, {"keepalive_s": 1.0}, {"backoff_s": 0.001}])
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        RecommendationClient("127.0.0.1:1", options=ClientOptions(**wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"events_max": 0}, {"group_max": 1001}, {"give_up_s": 0.0}])
def test_options_of_a_stream_are_checked_too(wrong: dict[str, float]) -> None:
    options = StreamOptions(**wrong)  # type: ignore[arg-type]
    with RecommendationClient("127.0.0.1:1") as client, pytest.raises(UsageError, match=next(iter(wrong))):
        client.event_stream(options)


async def test_the_asyncio_client_checks_them_alike() -> None:
    async with AsyncRecommendationClient("127.0.0.1:1") as client:
        with pytest.raises(UsageError, match="events_max"):
            client.event_stream(StreamOptions(events_max=0))
