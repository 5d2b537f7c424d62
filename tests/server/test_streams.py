from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2

from recserv import v1 as pb
from recserv.server.event_stream import GROUPS_IN_FLIGHT_MAX
from tests.patience import HANG_GUARD_S, eventually
from tests.server.harness import Failure, Service, detail_of, view


def group(*names: str) -> pb.StreamEventsRequest:
    return pb.StreamEventsRequest(events=[view(name) for name in names])


def ids(answers: list[pb.StreamEventsResponse]) -> list[list[str]]:
    return [[result.event_id for result in answer.results] for answer in answers]


def test_groups_are_acknowledged_in_order(service: Service) -> None:
    sent = [[f"{n}-{m}" for m in range(3)] for n in range(50)]
    answers, failure = service.events(group(*names) for names in sent)
    assert failure is None
    assert ids(answers) == sent
    assert [event.event_id for event in service.ingestor.events] == [name for names in sent for name in names]


def test_a_stream_without_groups_ends_well(service: Service) -> None:
    assert service.events([]) == ([], None)


def test_groups_overlap_up_to_a_bound(service: Service) -> None:
    service.ingestor.hold = threading.Event()
    sent = threading.Event()

    def groups() -> Iterator[pb.StreamEventsRequest]:
        yield from (group(f"e-{n}") for n in range(3 * GROUPS_IN_FLIGHT_MAX))
        # The next one is asked for when the last one is on its way.
        sent.set()

    stream = service.open_events(groups())
    for _ in range(GROUPS_IN_FLIGHT_MAX):
        assert service.ingestor.entered.acquire(timeout=HANG_GUARD_S)
    # All groups are there before these calls are: a server that would read more has had as many turns as it takes.
    assert sent.wait(HANG_GUARD_S)
    for _ in range(3 * GROUPS_IN_FLIGHT_MAX):
        service.unary("Recommend")
    assert not service.ingestor.entered.acquire(blocking=False)
    service.ingestor.hold.set()
    assert len(list(stream)) == 3 * GROUPS_IN_FLIGHT_MAX
    assert service.ingestor.at_once_max == GROUPS_IN_FLIGHT_MAX


def test_a_bad_event_is_rejected_and_the_stream_goes_on(service: Service) -> None:
    answers, failure = service.events(
        [pb.StreamEventsRequest(events=[view("good"), view("bad", value=-1.0)]), group("after")]
    )
    assert failure is None
    assert ids(answers) == [["good", "bad"], ["after"]]
    bad = answers[0].results[1]
    assert (bad.status, bad.error.code) == (pb.INGEST_STATUS_REJECTED, code_pb2.INVALID_ARGUMENT)
    fields = [v.field for v in detail_of(bad.error, error_details_pb2.BadRequest).field_violations]
    assert fields == ["events[1].value"]


@pytest.mark.parametrize("count", [0, 501])
def test_a_group_of_the_wrong_size_ends_the_stream_after_what_was_taken(service: Service, count: int) -> None:
    bad = pb.StreamEventsRequest(events=[view()] * count)
    answers, failure = service.events([group("before"), bad, group("never")])
    assert ids(answers) == [["before"]]
    assert failure is not None
    assert (failure.code, failure.fields()) == (grpc.StatusCode.INVALID_ARGUMENT, ["events"])


def test_malformed_bytes_end_the_stream_after_what_was_taken(service: Service) -> None:
    answers, failure = service.events([group("before"), b"\xff\xff"])
    assert ids(answers) == [["before"]]
    assert failure is not None
    assert (failure.code, failure.fields()) == (grpc.StatusCode.INVALID_ARGUMENT, ["request"])


def test_a_group_that_hangs_is_answered_as_unavailable(own_service: Callable[..., Service]) -> None:
    service = own_service(group_timeout_ms=50)
    service.ingestor.hold = threading.Event()
    [answer], failure = service.events([group("a", "b")])
    assert failure is None
    assert [(result.event_id, result.error.code) for result in answer.results] == [
        ("a", code_pb2.UNAVAILABLE),
        ("b", code_pb2.UNAVAILABLE),
    ]


def test_an_unexpected_error_ends_the_stream_as_internal(service: Service) -> None:
    service.ingestor.error = ZeroDivisionError("secret")
    answers, failure = service.events([group("a")])
    assert answers == []
    assert failure is not None
    assert (failure.code, failure.text) == (grpc.StatusCode.INTERNAL, "internal error")


def test_a_client_that_goes_away_leaves_no_stream_behind(service: Service) -> None:
    gate = threading.Event()

    def groups() -> Iterator[pb.StreamEventsRequest]:
        yield group("a")
        gate.wait(HANG_GUARD_S)

    stream = service.open_events(groups())
    next(stream)
    stream.cancel()
    gate.set()
    eventually(lambda: service.server.admission.streams.in_use == 0)


def test_explanations_are_watched_one_by_one(service: Service) -> None:
    raw = service.server_stream("WatchExplanations", pb.WatchExplanationsRequest(explanation_token="ready"))
    explanations = [pb.WatchExplanationsResponse.FromString(message).explanation for message in raw]
    assert [(explanation.item_id, explanation.state) for explanation in explanations] == [
        ("a", pb.EXPLANATION_STATE_READY),
        ("b", pb.EXPLANATION_STATE_TEMPLATE),
    ]


@pytest.mark.parametrize(
    ("token", "code"), [("nobody's", grpc.StatusCode.NOT_FOUND), ("", grpc.StatusCode.INVALID_ARGUMENT)]
)
def test_a_watch_of_no_known_token_fails(service: Service, token: str, code: grpc.StatusCode) -> None:
    with pytest.raises(Failure) as caught:
        service.server_stream("WatchExplanations", pb.WatchExplanationsRequest(explanation_token=token))
    assert caught.value.code == code
