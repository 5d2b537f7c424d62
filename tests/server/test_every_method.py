"""What holds for every method alike: sizes, deadlines, unknown fields, and each kind of bad entry in a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from recserv import v1 as pb
from tests.patience import HANG_GUARD_S, eventually
from tests.server.harness import Failure, Service, detail_of, nothing_of_a_call_stays, view
from tests.server.test_bad_input import EVENTS, GARBAGE, NUL, RECOMMEND

MIB = 1024 * 1024
SERVICE = "recserv.v1.RecommendationService"
HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
STREAMED = {
    *(("Watch", False), ("WatchExplanations", False), ("WatchRecommendations", False)),
    *(("StreamEvents", True), ("ServerReflectionInfo", True)),
}
# Each with a request that it answers well.
METHODS: dict[str, Any] = {
    f"{SERVICE}/Recommend": pb.RecommendRequest(session_id="s"),
    f"{SERVICE}/BatchRecommend": pb.BatchRecommendRequest(requests=[pb.RecommendRequest()]),
    f"{SERVICE}/IngestEvent": pb.IngestEventRequest(event=view()),
    f"{SERVICE}/BatchIngestEvents": pb.BatchIngestEventsRequest(events=[view()]),
    f"{SERVICE}/StreamEvents": pb.StreamEventsRequest(events=[view()]),
    f"{SERVICE}/GetContext": pb.GetContextRequest(session_id="s"),
    f"{SERVICE}/GetExplanations": pb.GetExplanationsRequest(explanation_token="ready"),
    f"{SERVICE}/WatchExplanations": pb.WatchExplanationsRequest(explanation_token="ready"),
    f"{SERVICE}/WatchRecommendations": pb.WatchRecommendationsRequest(request=pb.RecommendRequest(session_id="s")),
    f"{HEALTH}/Check": health_pb2.HealthCheckRequest(),
    f"{HEALTH}/Watch": health_pb2.HealthCheckRequest(),
    f"{REFLECTION}/ServerReflectionInfo": reflection_pb2.ServerReflectionRequest(list_services=""),
}
OURS = [path for path in METHODS if path.startswith(SERVICE)]
every_method = pytest.mark.parametrize("method", METHODS, ids=[path.partition("/")[2] for path in METHODS])


def first_answer(service: Service, path: str, body: bytes, timeout: float = HANG_GUARD_S, **options: Any) -> bytes:
    """Raises Failure."""
    name = path.partition("/")[2]
    channel: Any = service.channel
    try:
        if (name, True) in STREAMED:
            call = channel.stream_stream(f"/{path}")(iter([body]), timeout=timeout, **options)
        elif (name, False) in STREAMED:
            call = channel.unary_stream(f"/{path}")(body, timeout=timeout, **options)
        else:
            return bytes(channel.unary_unary(f"/{path}")(body, timeout=timeout, **options))
        answer = bytes(next(call))
        call.cancel()
    except grpc.RpcError as error:
        raise Failure(error) from None
    return answer


def failure_of(service: Service, path: str, body: bytes, **options: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        first_answer(service, path, body, **options)
    return caught.value


def untouched(service: Service) -> bool:
    return (service.recommender.queries, service.recommender.keys, service.ingestor.events) == ([], [], [])


def test_no_method_is_forgotten_here() -> None:
    ours = pb.recommendation_service_pb2.DESCRIPTOR.services_by_name["RecommendationService"].methods_by_name
    assert {path.partition("/")[2] for path in OURS} == set(ours)


@every_method
def test_malformed_bytes_are_an_invalid_argument(service: Service, method: str) -> None:
    for body in GARBAGE.values():
        failure = failure_of(service, method, body)
        assert (failure.code, failure.fields()) == (grpc.StatusCode.INVALID_ARGUMENT, ["request"])
    assert untouched(service)


@every_method
def test_an_unknown_field_is_ignored(service: Service, method: str) -> None:
    known = METHODS[method].SerializeToString()
    answer = first_answer(service, method, known + b"\xfa\x3e\x03abc")
    # Reflection alone repeats what it was asked.
    assert answer == first_answer(service, method, known) or method.startswith(REFLECTION)


@every_method
def test_a_message_beyond_the_limit_is_resource_exhausted(service: Service, method: str) -> None:
    body = METHODS[method].SerializeToString() + b"\xfa\x3e" + b"\x81\x80\x80\x02" + b"\0" * (4 * MIB + 1)
    assert failure_of(service, method, body).code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert untouched(service)


@every_method
def test_a_gzip_bomb_is_resource_exhausted(service: Service, method: str) -> None:
    bomb = b"\x0a" + b"\0" * (16 * MIB)
    failure = failure_of(service, method, bomb, compression=grpc.Compression.Gzip)
    assert failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert untouched(service)


@pytest.mark.parametrize("method", OURS)
def test_a_deadline_already_past_means_no_work(service: Service, method: str) -> None:
    body = METHODS[method].SerializeToString()
    for timeout in (-1.0, 0.0, 1e-9):
        assert failure_of(service, method, body, timeout=timeout).code == grpc.StatusCode.DEADLINE_EXCEEDED
    # A later call on the same connection has the server's word that the others are through.
    service.unary("Recommend")
    eventually(lambda: service.server.admission.streams.in_use == 0)
    assert len(service.recommender.queries) == 1
    assert service.ingestor.events == []


def test_after_all_of_it_the_next_call_is_answered(service: Service) -> None:
    for method in METHODS:
        failure_of(service, method, b"\xff\xff")
    for method, request in METHODS.items():
        first_answer(service, method, request.SerializeToString())
    eventually(lambda: service.server.admission.streams.in_use == 0)
    assert service.server.admission.recommends.in_use == 0


@every_method
def test_bytes_that_were_refused_are_gone_at_once(service: Service, method: str) -> None:
    """Errors hold frames and these the call: a flood of bad calls must not wait in memory for the collector."""
    with nothing_of_a_call_stays():
        failure_of(service, method, b"\xff\xff")


@pytest.mark.parametrize(
    "request_",
    [
        reflection_pb2.ServerReflectionRequest(),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Symbol"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="../../etc/passwd"),
        reflection_pb2.ServerReflectionRequest(all_extension_numbers_of_type="no.such.Type"),
        reflection_pb2.ServerReflectionRequest(
            file_containing_extension={"containing_type": "no.such.Type", "extension_number": -1}
        ),
    ],
    ids=["nothing", "symbol", "file", "extensions", "extension"],
)
def test_what_reflection_does_not_know_is_an_answer_and_no_failure(service: Service, request_: Any) -> None:
    raw = first_answer(service, f"{REFLECTION}/ServerReflectionInfo", request_.SerializeToString())
    answer = reflection_pb2.ServerReflectionResponse.FromString(raw)
    assert answer.error_response.error_code in (code_pb2.INVALID_ARGUMENT, code_pb2.NOT_FOUND)


def batch(service: Service, events: list[pb.Event]) -> list[pb.IngestResult]:
    raw = service.unary("BatchIngestEvents", pb.BatchIngestEventsRequest(events=events))
    return list(pb.BatchIngestEventsResponse.FromString(raw).results)


def stream(service: Service, events: list[pb.Event]) -> list[pb.IngestResult]:
    [answer], failure = service.events([pb.StreamEventsRequest(events=events)])
    assert failure is None
    return list(answer.results)


def fields_of(status: Any) -> list[str]:
    return [violation.field for violation in detail_of(status, error_details_pb2.BadRequest).field_violations]


@pytest.mark.parametrize("send", [batch, stream])
def test_every_kind_of_bad_event_in_a_batch_is_named_and_the_good_ones_are_in(
    service: Service, send: Callable[[Service, list[pb.Event]], list[pb.IngestResult]]
) -> None:
    first, *bad, last = results = send(service, [view("first"), *(event for event, _ in EVENTS), view("last")])
    assert [first.status, last.status] == [pb.INGEST_STATUS_ACCEPTED] * 2
    assert {result.status for result in bad} == {pb.INGEST_STATUS_REJECTED}
    assert {result.error.code for result in bad} == {code_pb2.INVALID_ARGUMENT}
    wanted = [[field.replace("event.", f"events[{place}].")] for place, (_, field) in enumerate(EVENTS, 1)]
    assert [fields_of(result.error) for result in bad] == wanted
    assert [event.event_id for event in service.ingestor.events] == ["first", "last"]
    assert len(results) == len(EVENTS) + 2


def test_every_kind_of_bad_request_in_a_batch_is_named_and_the_good_ones_are_answered(service: Service) -> None:
    requests = [pb.RecommendRequest(), *(request for request, _ in RECOMMEND), pb.RecommendRequest()]
    raw = service.unary("BatchRecommend", pb.BatchRecommendRequest(requests=requests))
    answer = pb.BatchRecommendResponse.FromString(raw)
    first, *bad, last = answer.responses
    assert [first.HasField("response"), last.HasField("response")] == [True, True]
    assert {entry.error.code for entry in bad} == {code_pb2.INVALID_ARGUMENT}
    wanted = [[f"requests[{place}].{field}"] for place, (_, field) in enumerate(RECOMMEND, 1)]
    assert [fields_of(entry.error) for entry in bad] == wanted
    assert (answer.summary.succeeded, answer.summary.failed) == (2, len(RECOMMEND))


@pytest.mark.parametrize("send", [batch, stream])
def test_an_id_of_megabytes_does_not_come_back_whole(
    service: Service, send: Callable[[Service, list[pb.Event]], list[pb.IngestResult]]
) -> None:
    """Else the answer would be larger than what the client takes, and the good events' results lost with it."""
    good, long = send(service, [view("good"), view("x" * (4 * MIB - 1000))])
    assert good.status == pb.INGEST_STATUS_ACCEPTED
    assert (long.status, len(long.event_id)) == (pb.INGEST_STATUS_REJECTED, 256)


def test_five_hundred_of_the_worst_events_get_an_answer_that_a_client_takes(service: Service) -> None:
    worst = view(NUL * 100, session_id=NUL, user_id=NUL, quantity=-1, dwell_ms=-1, value=-1.0, currency_code="?")
    worst.impression_item_ids.extend([NUL] * 300)
    results = batch(service, [worst] * 500)
    assert {result.error.code for result in results} == {code_pb2.INVALID_ARGUMENT}
    assert service.ingestor.events == []
