"""What a client does with a server that fails: gRPC's retries under our service config, and hedging."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from recserv import v1 as pb
from recserv.client import AsyncRecommendationClient, CallFailed, ClientOptions, RecommendationClient, StreamOptions
from recserv.client.options import RETRIED_METHODS, channel_target, service_config
from recserv.errors import Overloaded, UsageError
from recserv.types import Event, EventType, RecommendQuery, ShopperKey
from tests.client.scripted import ScriptedServer, Step, scripted
from tests.patience import HANG_GUARD_S, eventually

DOWN = Step(grpc.StatusCode.UNAVAILABLE)
BUSY = grpc.StatusCode.RESOURCE_EXHAUSTED
PATIENT = ClientOptions(timeout_s=HANG_GUARD_S)
ONCE = ClientOptions(timeout_s=HANG_GUARD_S, attempts_max=1)
QUICK = ClientOptions(timeout_s=HANG_GUARD_S, backoff_s=0.01, backoff_s_max=0.02)
HEDGING = ClientOptions(timeout_s=HANG_GUARD_S, hedge_after_s=0.02, attempts_max=1)
HOUR_S = 3600.0
LATE = pb.RecommendResponse(model_version="late").SerializeToString()
EVENT = Event(event_id="1", event_type=EventType.VIEW, session_id="s", item_id="i")


def _ask(server: ScriptedServer, options: ClientOptions = QUICK) -> str:
    with RecommendationClient(server.address, options=options) as client:
        return client.recommend(RecommendQuery(session_id="s")).model_version


def test_every_method_but_the_event_stream_is_retried() -> None:
    methods = set(pb.recommendation_service_pb2.DESCRIPTOR.services_by_name["RecommendationService"].methods_by_name)
    assert methods - set(RETRIED_METHODS) == {"StreamEvents"}
    assert set(RETRIED_METHODS) < methods


def test_a_server_that_is_away_for_a_moment_is_asked_again() -> None:
    with scripted(DOWN, DOWN) as server:
        assert _ask(server) == "scripted"
        assert len(server.attempts) == 3


def test_an_event_is_sent_again_too_since_it_counts_once() -> None:
    with scripted(DOWN) as server, RecommendationClient(server.address, options=QUICK) as client:
        client.ingest(EVENT)
        assert len(server.attempts) == 2


def test_attempts_are_bounded_and_the_last_failure_is_told() -> None:
    with scripted(*[DOWN] * 10) as server:
        with pytest.raises(CallFailed) as caught:
            _ask(server)
        assert (caught.value.code, len(server.attempts)) == ("UNAVAILABLE", QUICK.attempts_max)


def test_retries_can_be_turned_off() -> None:
    with scripted(DOWN) as server:
        with pytest.raises(CallFailed):
            _ask(server, ONCE)
        assert len(server.attempts) == 1
    assert "retryPolicy" not in service_config(ClientOptions(attempts_max=1))["methodConfig"][0]


def test_a_busy_server_is_asked_again_when_it_said_not_later() -> None:
    options = ClientOptions(timeout_s=HANG_GUARD_S, backoff_s=HOUR_S, backoff_s_max=HOUR_S)
    with scripted(Step(BUSY, pushback_ms=20)) as server:
        assert _ask(server, options) == "scripted"
        assert len(server.attempts) == 2


def test_a_busy_server_that_wants_no_retry_gets_none() -> None:
    with scripted(Step(BUSY, pushback_ms=-1)) as server:
        with pytest.raises(Overloaded) as caught:
            _ask(server)
        assert isinstance(caught.value, CallFailed)
        assert (caught.value.code, caught.value.retry_after_s, len(server.attempts)) == (BUSY.name, None, 1)


def test_the_servers_delay_is_told_to_the_caller() -> None:
    with scripted(Step(BUSY, pushback_ms=250)) as server, pytest.raises(Overloaded) as caught:
        _ask(server, ONCE)
    assert caught.value.retry_after_ms == 250


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT])
def test_other_failures_are_not_retried(code: grpc.StatusCode) -> None:
    with scripted(Step(code)) as server:
        with pytest.raises(CallFailed):
            _ask(server)
        assert len(server.attempts) == 1


def test_when_everything_fails_retries_stop() -> None:
    options = ClientOptions(timeout_s=HANG_GUARD_S, backoff_s=0.01, backoff_s_max=0.01, retry_tokens=10)
    calls = 30
    with scripted(*[DOWN] * 500) as server, RecommendationClient(server.address, options=options) as client:
        for _ in range(calls):
            with pytest.raises(CallFailed):
                client.recommend(RecommendQuery(session_id="s"))
        # Below half of the tokens nothing is tried again: at most ten failures before that.
        assert calls <= len(server.attempts) <= calls + options.retry_tokens


def test_a_retry_waits_as_long_as_the_server_said_and_not_beyond_the_deadline() -> None:
    options = ClientOptions(timeout_s=0.3, backoff_s=0.01, backoff_s_max=0.01)
    with scripted(*[Step(BUSY, pushback_ms=round(HOUR_S * 1000))] * 100) as server:
        with pytest.raises(CallFailed):
            _ask(server, options)
        # None if the deadline passed before the first one had arrived.
        assert len(server.attempts) <= 1


def test_hedging_is_off_unless_asked_for() -> None:
    assert ClientOptions().hedge_after_s is None
    _sent_once_while_a_read_is_hedged(PATIENT, "GetContext", lambda client: client.context(ShopperKey("s")))


def test_events_are_never_hedged() -> None:
    _sent_once_while_a_read_is_hedged(HEDGING, "IngestEvent", lambda client: client.ingest(EVENT))


def _sent_once_while_a_read_is_hedged(
    options: ClientOptions, method: str, call: Callable[[RecommendationClient], object]
) -> None:
    """A hedge that was sent shows that it was time for another one's as well, had there been one."""
    held = threading.Event()
    with (
        scripted(Step(held=held), Step(held=held)) as server,
        RecommendationClient(server.address, options=options) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        tested = thread.submit(call, client)
        try:
            eventually(lambda: server.attempts == [method])
            assert _ask(server, HEDGING) == "scripted"
            assert server.attempts == [method, "Recommend", "Recommend"]
        finally:
            held.set()
        tested.result(HANG_GUARD_S)
        assert server.attempts.count(method) == 1


def test_a_slow_read_is_sent_a_second_time_and_the_first_answer_counts() -> None:
    with scripted(Step(held=threading.Event(), answer=LATE)) as server:
        assert _ask(server, HEDGING) == "scripted"
        assert len(server.attempts) == 2


def test_a_hedge_that_fails_leaves_the_other_call_its_time() -> None:
    with scripted(*_hedge_that_fails()) as server:
        assert _ask(server, HEDGING) == "late"
        assert len(server.attempts) == 2


async def test_the_asyncio_client_hedges_alike() -> None:
    with scripted(*_hedge_that_fails(), Step(held=threading.Event(), answer=LATE)) as server:
        async with AsyncRecommendationClient(server.address, options=HEDGING) as client:
            for attempts, answer in ((2, "late"), (4, "scripted")):
                assert (await client.recommend(RecommendQuery(session_id="s"))).model_version == answer
                assert len(server.attempts) == attempts


def _hedge_that_fails() -> list[Step]:
    """The first attempt is answered once the second one has failed."""
    failed = threading.Event()
    return [Step(held=failed, answer=LATE), Step(grpc.StatusCode.INTERNAL, sets=failed)]


async def test_the_asyncio_client_retries_alike() -> None:
    with scripted(DOWN, Step(BUSY, pushback_ms=20)) as server:
        async with AsyncRecommendationClient(server.address, options=QUICK) as client:
            assert (await client.recommend(RecommendQuery(session_id="s"))).model_version == "scripted"
        assert len(server.attempts) == 3


def test_calls_go_round_robin_over_several_servers_and_past_one_that_is_gone() -> None:
    # Bound and never listening, so that nobody else listens there meanwhile.
    with scripted() as one, scripted() as other, socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        targets = [one.address, other.address, f"127.0.0.1:{gone.getsockname()[1]}"]
        with RecommendationClient(targets, options=QUICK) as client:

            def both_connected() -> bool:
                client.recommend(RecommendQuery(session_id="s"))
                return bool(one.attempts and other.attempts)

            eventually(both_connected)
            one.attempts.clear()
            other.attempts.clear()
            for _ in range(20):
                client.recommend(RecommendQuery(session_id="s"))
        assert min(len(one.attempts), len(other.attempts)) >= 5


def test_of_several_servers_one_that_drains_gets_no_calls() -> None:
    with scripted() as one, scripted() as draining:
        draining.says_serving(False)
        with RecommendationClient([one.address, draining.address], options=PATIENT) as client:
            for _ in range(20):
                client.recommend(RecommendQuery(session_id="s"))
            assert (len(one.attempts), draining.attempts) == (20, [])
            draining.says_serving(True)

            def serves_again() -> bool:
                client.recommend(RecommendQuery(session_id="s"))
                return bool(draining.attempts)

            eventually(serves_again)


async def test_the_asyncio_client_sends_nothing_to_a_server_that_is_not_serving() -> None:
    with scripted() as one, scripted() as draining:
        draining.says_serving(False)
        async with AsyncRecommendationClient([one.address, draining.address], options=PATIENT) as client:
            for _ in range(20):
                await client.recommend(RecommendQuery(session_id="s"))
        assert (len(one.attempts), draining.attempts) == (20, [])


def test_a_lone_server_that_drains_is_called_until_it_ends() -> None:
    with scripted() as draining:
        draining.says_serving(False)
        assert _ask(draining, ONCE) == "scripted"


def test_health_is_asked_for_where_there_is_a_choice_or_where_the_options_say_so() -> None:
    said = {
        (several, wanted): "healthCheckConfig" in service_config(ClientOptions(health_checked=wanted), several=several)
        for several in (False, True)
        for wanted in (None, False, True)
    }
    assert [key for key, asked in said.items() if asked] == [(False, True), (True, None), (True, True)]


def test_a_target_becomes_a_grpc_name_or_is_refused() -> None:
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


async def test_the_asyncio_client_refuses_stream_options_out_of_range() -> None:
    async with AsyncRecommendationClient("127.0.0.1:1") as client:
        with pytest.raises(UsageError, match="events_max"):
            client.event_stream(StreamOptions(events_max=0))
