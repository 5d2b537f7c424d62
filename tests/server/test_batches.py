from __future__ import annotations

import math

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2

from recserv import v1 as pb
from recserv.errors import EventConflict, EventTooOld, StoreUnavailable
from tests.server.harness import Failure, Service, detail_of, view


def ingest(service: Service, *events: pb.Event) -> list[pb.IngestResult]:
    raw = service.unary("BatchIngestEvents", pb.BatchIngestEventsRequest(events=events))
    return list(pb.BatchIngestEventsResponse.FromString(raw).results)


def test_good_events_of_a_batch_are_in_and_bad_ones_say_why(service: Service) -> None:
    service.ingestor.errors["clash"] = EventConflict("event_id: other body")
    service.ingestor.errors["old"] = EventTooOld("event_time is old")
    service.ingestor.errors["down"] = StoreUnavailable("disk", 500)
    service.ingestor.duplicates.add("twice")
    names = ["good", "bad", "clash", "old", "down", "twice"]
    results = ingest(service, *[view(name, value=math.nan if name == "bad" else 0.0) for name in names])
    assert [result.event_id for result in results] == names
    assert [pb.IngestStatus.Name(result.status).removeprefix("INGEST_STATUS_") for result in results] == [
        "ACCEPTED",
        *["REJECTED"] * 4,
        "DUPLICATE",
    ]
    assert [result.error.code for result in results] == [
        0,
        code_pb2.INVALID_ARGUMENT,
        code_pb2.ALREADY_EXISTS,
        code_pb2.OUT_OF_RANGE,
        code_pb2.UNAVAILABLE,
        0,
    ]
    assert [result.consistency_token for result in results] == ["token-good", "", "", "", "", "token-twice"]
    bad = detail_of(results[1].error, error_details_pb2.BadRequest)
    assert [violation.field for violation in bad.field_violations] == ["events[1].value"]
    assert detail_of(results[4].error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 500
    assert [event.event_id for event in service.ingestor.events] == ["good", "clash", "old", "down", "twice"]


def test_a_batch_of_bad_events_alone_does_not_touch_the_store(service: Service) -> None:
    [result] = ingest(service, view(event_type=0))
    assert result.status == pb.INGEST_STATUS_REJECTED
    assert not service.ingestor.entered.acquire(blocking=False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EventConflict("event_id: other body"), grpc.StatusCode.ALREADY_EXISTS),
        (EventTooOld("event_time is old"), grpc.StatusCode.OUT_OF_RANGE),
        (StoreUnavailable("disk", 700), grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_a_single_event_fails_with_the_status_of_its_error(
    service: Service, error: Exception, code: grpc.StatusCode
) -> None:
    service.ingestor.errors["e-1"] = error  # type: ignore[assignment]
    with pytest.raises(Failure) as caught:
        service.unary("IngestEvent", pb.IngestEventRequest(event=view()))
    assert caught.value.code == code
    if isinstance(error, StoreUnavailable):
        assert caught.value.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 700


def test_a_single_event_answers_with_status_and_token(service: Service) -> None:
    raw = service.unary("IngestEvent", pb.IngestEventRequest(event=view("e-9", properties={"a": "b"}, quantity=2)))
    response = pb.IngestEventResponse.FromString(raw)
    assert (response.status, response.consistency_token) == (pb.INGEST_STATUS_ACCEPTED, "token-e-9")
    [event] = service.ingestor.events
    assert (event.properties, event.quantity, event.event_time_ms) == ({"a": "b"}, 2, None)


def test_each_request_of_a_batch_succeeds_or_fails_by_itself(service: Service) -> None:
    requests = [
        pb.RecommendRequest(session_id="fine"),
        pb.RecommendRequest(page_size=-1),
        pb.RecommendRequest(session_id="degraded"),
        pb.RecommendRequest(filter="x"),
    ]
    raw = service.unary("BatchRecommend", pb.BatchRecommendRequest(requests=requests))
    batch = pb.BatchRecommendResponse.FromString(raw)
    assert [entry.WhichOneof("outcome") for entry in batch.responses] == ["response", "error", "response", "error"]
    assert [entry.error.code for entry in batch.responses] == [0, code_pb2.INVALID_ARGUMENT, 0, code_pb2.UNIMPLEMENTED]
    bad = detail_of(batch.responses[1].error, error_details_pb2.BadRequest)
    assert [violation.field for violation in bad.field_violations] == ["requests[1].page_size"]
    summary = batch.summary
    assert (summary.total, summary.succeeded, summary.failed, summary.degraded) == (4, 2, 2, 1)


def test_a_batch_of_a_hundred_is_answered_in_order(service: Service) -> None:
    requests = [pb.RecommendRequest(session_id=f"s-{n}", page_size=1) for n in range(100)]
    raw = service.unary("BatchRecommend", pb.BatchRecommendRequest(requests=requests))
    assert pb.BatchRecommendResponse.FromString(raw).summary.succeeded == 100
    assert [query.session_id for query in service.recommender.queries] == [f"s-{n}" for n in range(100)]


def test_an_unexpected_error_in_an_entry_is_internal_and_tells_nothing(service: Service) -> None:
    service.recommender.error = ZeroDivisionError("secret detail")
    raw = service.unary("BatchRecommend", pb.BatchRecommendRequest(requests=[pb.RecommendRequest()]))
    [entry] = pb.BatchRecommendResponse.FromString(raw).responses
    assert (entry.error.code, entry.error.message) == (code_pb2.INTERNAL, "internal error")
    assert b"secret" not in raw
