"""Admission and drain: who may come in, and how the server ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2

from recserv import v1 as pb
from recserv.errors import Overloaded, TooLarge
from recserv.server.admission import ConcurrencyLimiter
from recserv.server.assembly import SERVICE, ServerLimits
from recserv.server.call import MESSAGE_BYTES_MAX, parser
from recserv.server.status import ServerDraining, rejection, status_of
from tests.patience import HANG_GUARD_S, eventually
from tests.server.harness import Failure, Service, view

WATCH = "/grpc.health.v1.Health/Watch"


def in_flight(service: Service, count: int) -> list[grpc.Future[bytes]]:
    """So many Recommend calls inside the pipeline, held there."""
    service.recommender.hold = threading.Event()
    call = service.channel.unary_unary(f"/{SERVICE}/Recommend")
    futures = [call.future(b"", timeout=HANG_GUARD_S) for _ in range(count)]
    for _ in range(count):
        assert service.recommender.entered.acquire(timeout=HANG_GUARD_S)
    return futures


def release(service: Service) -> None:
    assert service.recommender.hold is not None
    service.recommender.hold.set()


def test_a_call_beyond_the_limit_is_told_when_to_retry_and_does_no_work(own_service: Callable[..., Service]) -> None:
    service = own_service(max_in_flight=2)
    futures = in_flight(service, 2)
    queries = len(service.recommender.queries)
    with pytest.raises(Failure) as caught:
        service.unary("Recommend")
    assert caught.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    assert len(service.recommender.queries) == queries
    release(service)
    for future in futures:
        future.result(HANG_GUARD_S)
    service.unary("Recommend")


BODIES = {
    "Recommend": pb.RecommendRequest(),
    "BatchRecommend": pb.BatchRecommendRequest(requests=[pb.RecommendRequest()]),
    "IngestEvent": pb.IngestEventRequest(event=view()),
    "BatchIngestEvents": pb.BatchIngestEventsRequest(events=[view()]),
    "GetContext": pb.GetContextRequest(session_id="s"),
    "GetExplanations": pb.GetExplanationsRequest(explanation_token="ready"),
}
CLASSES = [{"Recommend", "BatchRecommend"}, {"IngestEvent", "BatchIngestEvents"}, {"GetContext", "GetExplanations"}]


@pytest.mark.parametrize("held", ["Recommend", "IngestEvent", "GetContext"])
def test_calls_that_hang_take_no_place_of_another_class(held: str, own_service: Callable[..., Service]) -> None:
    service = own_service(max_in_flight=2)
    gate = threading.Event()
    where = {"Recommend": "recommender", "IngestEvent": "ingestor", "GetContext": "recommender"}[held]
    setattr(getattr(service, where), "hold_contexts" if held == "GetContext" else "hold", gate)
    call = service.channel.unary_unary(f"/{SERVICE}/{held}")
    futures = [call.future(BODIES[held].SerializeToString(), timeout=HANG_GUARD_S) for _ in range(2)]
    eventually(lambda: service.server.admission.in_flight == 2)
    # Nor do they count in the verdict on a recommendation.
    assert service.server.overload.handling == (2 if held == "Recommend" else 0)
    for method, body in BODIES.items():
        if any({method, held} <= members for members in CLASSES):
            with pytest.raises(Failure) as caught:
                service.unary(method, body, HANG_GUARD_S)
            assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        else:
            service.unary(method, body, HANG_GUARD_S)
    gate.set()
    for future in futures:
        future.result(HANG_GUARD_S)


def test_a_batch_counts_as_the_calls_that_it_runs_at_once(own_service: Callable[..., Service]) -> None:
    service = own_service(max_in_flight=4)
    futures = in_flight(service, 1)
    batch = pb.BatchRecommendRequest(requests=[pb.RecommendRequest()] * 8)
    with pytest.raises(Failure) as caught:
        service.unary("BatchRecommend", batch)
    assert caught.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    release(service)
    futures[0].result(HANG_GUARD_S)
    eventually(lambda: service.server.admission.recommends.in_use == 0)
    raw = service.unary("BatchRecommend", batch)
    assert pb.BatchRecommendResponse.FromString(raw).summary.succeeded == 8
    assert service.server.admission.recommends.in_use == 0


def test_a_connection_has_so_many_calls_at_once_and_the_others_wait_their_turn(
    own_service: Callable[..., Service],
) -> None:
    service = own_service(max_calls_per_connection=2)
    # The connection knows the limit only once the server's first words are read.
    service.unary("Recommend", timeout=HANG_GUARD_S)
    assert service.recommender.entered.acquire(timeout=HANG_GUARD_S)
    futures = in_flight(service, 2)
    waiting = service.channel.unary_unary(f"/{SERVICE}/Recommend").future(b"", timeout=HANG_GUARD_S)
    # Another connection is not concerned, and what came before it was looked at.
    with grpc.insecure_channel(service.address, options=[("grpc.use_local_subchannel_pool", 1)]) as other:
        beside = other.unary_unary(f"/{SERVICE}/Recommend").future(b"", timeout=HANG_GUARD_S)
        eventually(lambda: service.server.admission.in_flight == 3)
        assert not waiting.done()
        release(service)
        for future in (*futures, waiting, beside):
            assert future.result(HANG_GUARD_S)


def test_how_many_calls_may_wait_is_a_setting() -> None:
    options = dict(ServerLimits(max_waiting_calls=300).options())
    assert options["grpc.server.max_pending_requests"] == 300
    assert options["grpc.server.max_pending_requests_hard_limit"] == 600


def test_streams_have_a_limit_of_their_own(own_service: Callable[..., Service]) -> None:
    service = own_service(max_streams=1)
    gate = threading.Event()

    def groups() -> Iterator[pb.StreamEventsRequest]:
        yield pb.StreamEventsRequest(events=[view()])
        gate.wait(HANG_GUARD_S)

    first = service.open_events(groups())
    next(first)
    with pytest.raises(Failure) as caught:
        service.server_stream("WatchExplanations", pb.WatchExplanationsRequest(explanation_token="ready"))
    assert caught.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    gate.set()
    assert list(first) == []


async def test_permits_are_given_back_and_closed_permits_are_refused() -> None:
    limiter = ConcurrencyLimiter(2, "full", 100)
    limiter.enter(2)
    with pytest.raises(Overloaded):
        limiter.enter()
    limiter.leave()
    limiter.close()
    with pytest.raises(ServerDraining):
        limiter.enter()
    limiter.leave()
    await limiter.drained()
    assert limiter.in_use == 0


def test_a_drain_lets_a_call_in_flight_finish(own_service: Callable[..., Service]) -> None:
    service = own_service()
    [future] = in_flight(service, 1)
    draining = service.drain_soon()
    eventually(lambda: service.server.admission.closed)
    release(service)
    assert pb.RecommendResponse.FromString(future.result(HANG_GUARD_S)).recommendation_id == "r-1"
    assert draining.result(HANG_GUARD_S) is True


def test_a_drain_cuts_off_what_outlives_the_grace_period(own_service: Callable[..., Service]) -> None:
    service = own_service()
    [future] = in_flight(service, 1)
    assert service.drain_soon(0.1).result(HANG_GUARD_S) is False
    with pytest.raises(grpc.RpcError) as caught:
        future.result(HANG_GUARD_S)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_drain_turns_health_to_not_serving_before_it_cuts_its_watchers_off(
    own_service: Callable[..., Service],
) -> None:
    service = own_service()
    # The drain waits for it, and so has not cut anybody off before the watcher has read.
    [held] = in_flight(service, 1)
    states = service.channel.unary_stream(WATCH, response_deserializer=health_pb2.HealthCheckResponse.FromString)(
        b"", timeout=HANG_GUARD_S
    )
    assert next(states).status == health_pb2.HealthCheckResponse.SERVING
    draining = service.drain_soon()
    assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING
    release(service)
    held.result(HANG_GUARD_S)
    with pytest.raises(grpc.RpcError):
        next(states)
    assert draining.result(HANG_GUARD_S) is True


def test_a_drain_answers_the_groups_of_a_stream_that_it_took_and_tells_the_client(
    own_service: Callable[..., Service],
) -> None:
    service = own_service()
    service.ingestor.hold = threading.Event()
    gate = threading.Event()

    def groups() -> Iterator[pb.StreamEventsRequest]:
        yield pb.StreamEventsRequest(events=[view("taken")])
        gate.wait(HANG_GUARD_S)

    stream = service.open_events(groups(), timeout=HANG_GUARD_S)
    assert service.ingestor.entered.acquire(timeout=HANG_GUARD_S)
    draining = service.drain_soon()
    eventually(lambda: service.server.admission.closed)
    service.ingestor.hold.set()
    [result] = pb.StreamEventsResponse.FromString(next(stream)).results
    assert (result.event_id, result.status) == ("taken", pb.INGEST_STATUS_ACCEPTED)
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    failure = Failure(caught.value)
    assert failure.code == grpc.StatusCode.UNAVAILABLE
    assert failure.detail(error_details_pb2.ErrorInfo).reason == "DRAINING"
    gate.set()
    assert draining.result(HANG_GUARD_S) is True


def test_a_drain_ends_a_watch_of_explanations(own_service: Callable[..., Service]) -> None:
    service = own_service()
    service.board.hold = threading.Event()
    watch = service.channel.unary_stream(f"/{SERVICE}/WatchExplanations")(
        pb.WatchExplanationsRequest(explanation_token="ready").SerializeToString(), timeout=HANG_GUARD_S
    )
    next(watch)
    draining = service.drain_soon()
    with pytest.raises(grpc.RpcError) as caught:
        next(watch)
    assert Failure(caught.value).code == grpc.StatusCode.UNAVAILABLE
    assert draining.result(HANG_GUARD_S) is True


def test_many_calls_at_once_are_all_answered(service: Service) -> None:
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: service.unary("Recommend", pb.RecommendRequest()), range(200)))
    assert len(answers) == 200
    assert service.server.admission.recommends.in_use == 0


def test_a_message_too_large_is_not_worth_sending_again() -> None:
    """gRPC's own limit comes first; this is for a gRPC that counts otherwise, as for compressed messages."""
    with pytest.raises(TooLarge) as caught:
        parser(pb.RecommendRequest)(b"\x00" * (MESSAGE_BYTES_MAX + 1))
    code, text, trailing = rejection(caught.value)
    assert (code, str(MESSAGE_BYTES_MAX) in text) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
    assert not any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status_of(caught.value).details)
    assert [key for key, _ in trailing] == ["grpc-status-details-bin"]
