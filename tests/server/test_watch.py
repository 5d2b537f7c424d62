"""WatchRecommendations through gRPC, over fakes: what is checked, when it ends, what it leaves, and who goes first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from recserv import v1 as pb
from recserv.pipeline.watch import Outcome
from recserv.pipeline.watch_answers import answer_digest, resume_token
from recserv.types import WATCH_BYTES_MAX, DegradedReason, Event, EventType, Priority
from tests.patience import eventually
from tests.server.harness import Failure, Service, answer, nothing_of_a_call_stays
from tests.server.test_bad_input import RECOMMEND

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def request(resume: str = "", **fields: Any) -> pb.WatchRecommendationsRequest:
    return pb.WatchRecommendationsRequest(
        request=pb.RecommendRequest(**{"session_id": "s", **fields}), resume_token=resume
    )


@contextmanager
def watching(
    service: Service, body: Any = None, **options: Any
) -> Iterator[Callable[[], pb.WatchRecommendationsResponse]]:
    """A function that gives the next answer, or raises Failure."""
    with service.opened("WatchRecommendations", request() if body is None else body, **options) as call:
        yield lambda: pb.WatchRecommendationsResponse.FromString(next(call))


def refused(service: Service, body: Any) -> Failure:
    with pytest.raises(Failure) as caught, watching(service, body) as following:
        following()
    return caught.value


def acknowledge(service: Service, **fields: str) -> None:
    happened = Event(event_id="e", event_type=EventType.VIEW, item_id="i", **{"session_id": "s", **fields})

    async def tell() -> None:
        service.watches.acknowledged("default", [happened])

    service.run(tell())


def looks(service: Service, outcome: str) -> int:
    return service.looks.count[Outcome(outcome)]


def model(version: str, **changes: Any) -> Any:
    return answer(model_version=version, **changes)


def test_an_event_brings_the_next_answer_with_its_token(service: Service) -> None:
    with watching(service) as following:
        first = following()
        assert first.response.model_version == "m-1"
        assert first.resume_token == resume_token(answer_digest(answer()))
        service.recommender.answer = model("m-2")
        service.unary(
            "IngestEvent",
            pb.IngestEventRequest(
                event=pb.Event(event_id="e", event_type=pb.EVENT_TYPE_VIEW, session_id="s", item_id="i")
            ),
        )
        second = following()
        assert (second.response.model_version, second.resume_token != first.resume_token) == ("m-2", True)
    [query, *_] = service.recommender.queries
    assert (query.session_id, query.known_answer) == ("s", b"")


def test_an_answer_like_the_last_one_is_not_sent_whatever_server_sent_that(service: Service) -> None:
    with watching(service, request(resume_token(answer_digest(answer())))) as following:
        eventually(lambda: len(service.recommender.queries) == 1)
        service.recommender.answer = model("m-2")
        acknowledge(service)
        assert following().response.model_version == "m-2"


@pytest.mark.parametrize(("inner", "field"), RECOMMEND, ids=[field for _, field in RECOMMEND])
def test_what_is_wrong_with_the_request_is_named_as_in_recommend(
    service: Service, inner: pb.RecommendRequest, field: str
) -> None:
    body = pb.WatchRecommendationsRequest(request=inner)
    if not inner.session_id and not inner.user_id:
        body.request.session_id = "s"
    failure = refused(service, body)
    assert (failure.code, failure.fields()) == (INVALID, [f"request.{field}"])
    assert service.recommender.queries == []


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (pb.WatchRecommendationsRequest(), ["request"]),
        (pb.WatchRecommendationsRequest(request=pb.RecommendRequest()), ["request.session_id"]),
        (request("no token"), ["resume_token"]),
        (
            pb.WatchRecommendationsRequest(request=pb.RecommendRequest(page_size=-1), resume_token="x" * 20),
            ["request.session_id", "request.page_size", "resume_token"],
        ),
    ],
    ids=["nothing", "nobody", "token", "all at once"],
)
def test_what_is_wrong_with_the_watch_is_named(service: Service, body: Any, fields: list[str]) -> None:
    failure = refused(service, body)
    assert (failure.code, failure.fields()) == (INVALID, fields)
    assert service.recommender.queries == []


def of_events(count: int) -> pb.WatchRecommendationsRequest:
    seen = pb.Event(event_type=pb.EVENT_TYPE_VIEW, item_id="i", properties={"note": "x" * 1000})
    return request(context_events=[seen] * count)


def with_unknown_field() -> pb.WatchRecommendationsRequest:
    """Of a later release: field 15, 65536 bytes."""
    return pb.WatchRecommendationsRequest.FromString(
        request().SerializeToString() + b"\x7a\x80\x80\x04" + bytes(WATCH_BYTES_MAX)
    )


@pytest.mark.parametrize("body", [of_events(70), with_unknown_field()], ids=["events", "unknown field"])
def test_a_request_larger_than_what_is_kept_for_a_watch_is_refused(service: Service, body: Any) -> None:
    failure = refused(service, body)
    assert (failure.code, failure.fields()) == (INVALID, ["request"])
    assert service.recommender.queries == []
    with watching(service, of_events(60)) as following:
        following()


def test_what_is_promised_for_later_is_unimplemented(service: Service) -> None:
    failure = refused(service, request(filter="x"))
    assert (failure.code, "request.filter" in failure.text) == (grpc.StatusCode.UNIMPLEMENTED, True)
    assert refused(service, request("bad token", filter="x")).code == INVALID


def test_one_watch_too_many_is_told_when_to_come_again(own_service: Callable[..., Service]) -> None:
    service = own_service(max_watches=2, max_streams=1)
    with watching(service) as one, watching(service) as two:
        one(), two()
        failure = refused(service, request())
        assert failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
        # They take no place of streams that end.
        assert service.server_stream("WatchExplanations", pb.WatchExplanationsRequest(explanation_token="ready"))
    eventually(lambda: service.server.admission.watches.in_use == 0)
    with watching(service) as again:
        again()


def test_a_client_that_goes_leaves_nothing_behind(service: Service) -> None:
    with nothing_of_a_call_stays():
        with watching(service) as following:
            following()
            assert len(service.watches) == 1
        eventually(lambda: len(service.watches) == 0 and service.server.admission.watches.in_use == 0)
    with pytest.raises(Failure) as caught, watching(service, timeout=0.05) as following:
        read_on(following)
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: len(service.watches) == 0 and service.server.admission.watches.in_use == 0)


def test_a_drain_ends_watches_with_a_word_of_a_retry(own_service: Callable[..., Service]) -> None:
    service = own_service()
    drained = None

    def drain_behind(following: Callable[[], object]) -> None:
        nonlocal drained
        following()
        drained = service.drain_soon()
        read_on(following)

    with pytest.raises(Failure) as caught, watching(service) as following:
        drain_behind(following)
    assert caught.value.code == grpc.StatusCode.UNAVAILABLE
    assert caught.value.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() >= 0
    assert drained is not None
    assert drained.result()
    assert len(service.watches) == 0


def test_watches_are_counted_by_what_became_of_their_looks(service: Service) -> None:
    before = {outcome: looks(service, outcome) for outcome in ("sent", "unchanged")}
    with watching(service) as following:
        following()
        acknowledge(service)
        eventually(lambda: looks(service, "unchanged") == before["unchanged"] + 1)
        assert looks(service, "sent") == before["sent"] + 1
        assert service.server.admission.streams.in_use == 0


def read_on(following: Callable[[], object]) -> None:
    while True:
        following()


def crowd(service: Service, calls: int) -> None:
    service.server.overload.handling += calls


def test_under_pressure_a_watch_waits_and_sends_no_popular_items_over_its_list(service: Service) -> None:
    limit = int(service.server.overload.limit)
    with watching(service) as following:
        following()
        service.recommender.answer = model("m-2")
        postponed = looks(service, "postponed")
        crowd(service, 3 * limit)
        try:
            acknowledge(service)
            eventually(lambda: looks(service, "postponed") > postponed)
            assert len(service.recommender.queries) == 1
            assert service.server.overload.handling == 3 * limit
        finally:
            crowd(service, -3 * limit)
        # The server's clock stands still: the pause before the next look is over when the test says so.
        service.clock.now_s += 60.0
        assert following().response.model_version == "m-2"
        assert service.recommender.overloaded == [False, False]


def test_under_pressure_a_first_answer_is_brief_or_the_watch_is_turned_away(service: Service) -> None:
    limit = int(service.server.overload.limit)
    crowd(service, 3 * limit)
    try:
        service.recommender.answer = model("brief", degraded_reasons=(DegradedReason.OVERLOAD,))
        with watching(service) as following:
            assert following().response.model_version == "brief"
        assert service.recommender.overloaded == [True]
        eventually(lambda: len(service.watches) == 0)
        # Who has a list waits for a better one than that.
        postponed = looks(service, "postponed")
        with watching(service, request(resume_token(answer_digest(answer())))):
            eventually(lambda: looks(service, "postponed") > postponed)
        assert service.recommender.overloaded == [True]
        failure = refused(service, request(priority=pb.PRIORITY_LOW))
        assert failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    finally:
        crowd(service, -3 * limit)
    assert service.server.overload.handling == 0


@pytest.mark.parametrize(("share", "room"), [(0.5, "LNH"), (0.8, "NH"), (1.2, "H"), (7.0, "H"), (9.0, "")])
def test_the_priority_of_its_request_says_which_watch_waits_first(service: Service, share: float, room: str) -> None:
    control = service.server.overload
    inside = int(share * control.limit)
    crowd(service, inside)
    try:
        found = "".join(p.name[0] for p in (Priority.LOW, Priority.NORMAL, Priority.HIGH) if control.has_room(p))
    finally:
        crowd(service, -inside)
    assert found == room
