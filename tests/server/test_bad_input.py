"""Each row of what a client may get wrong: the status, the field that is named, and that nothing went further."""

from __future__ import annotations

import contextlib
import math
import re
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from recserv import v1 as pb
from tests.patience import HANG_GUARD_S
from tests.server.harness import NOW_MS, Failure, Service, nothing_of_a_call_stays, view
from tests.stubs import contract_text

INVALID = grpc.StatusCode.INVALID_ARGUMENT
LONG = "x" * 257
LONG_IN_BYTES = "é" * 129
NUL, CONTROL = "a\0b", "a\x1fb"
UNARY = ("Recommend", "BatchRecommend", "IngestEvent", "BatchIngestEvents", "GetContext", "GetExplanations")
GARBAGE = {
    "truncated": b"\x0a\x05ab",
    "garbage": b"\xff\xff\xff\xff",
    "not UTF-8": b"\x0a\x02\xff\xfe",
    "a group without an end": b"\x0b",
}


def recommend(**fields: Any) -> pb.RecommendRequest:
    return pb.RecommendRequest(**fields)


def attributes(count: int) -> dict[str, str]:
    return {f"k{n}": "v" for n in range(count)}


RECOMMEND = [
    (recommend(session_id=LONG), "session_id"),
    (recommend(session_id=LONG_IN_BYTES), "session_id"),
    (recommend(session_id=NUL), "session_id"),
    (recommend(user_id=CONTROL), "user_id"),
    (recommend(request_id=LONG), "request_id"),
    (recommend(page_size=-1), "page_size"),
    (recommend(page_size=101), "page_size"),
    (recommend(diversity=math.nan), "diversity"),
    (recommend(diversity=-0.1), "diversity"),
    (recommend(diversity=1.1), "diversity"),
    (recommend(diversity=math.inf), "diversity"),
    (recommend(exclude_item_ids=["a"] * 1001), "exclude_item_ids"),
    (recommend(exclude_item_ids=["a", ""]), "exclude_item_ids[1]"),
    (recommend(anchor_item_ids=["a"] * 101), "anchor_item_ids"),
    (recommend(anchor_item_ids=[NUL]), "anchor_item_ids[0]"),
    (recommend(candidate_item_ids=["a"] * 1001), "candidate_item_ids"),
    (recommend(candidate_item_ids=[LONG]), "candidate_item_ids[0]"),
    (recommend(explain=77), "explain"),
    (recommend(priority=77), "priority"),
    (recommend(category=LONG), "category"),
    (recommend(placement=CONTROL), "placement"),
    (recommend(locale=LONG), "locale"),
    (recommend(device_type=LONG), "device_type"),
    (recommend(consistency_token=LONG), "consistency_token"),
    (recommend(user_attributes=attributes(65)), "user_attributes"),
    (recommend(user_attributes={LONG: "v"}), "user_attributes (a key)"),
    (recommend(user_attributes={"k": "v" * 1025}), "user_attributes (a value)"),
    (recommend(context_events=[view()] * 101), "context_events"),
    (recommend(context_events=[view(), view(event_type=0)]), "context_events[1].event_type"),
    (recommend(context_events=[view(item_id="")]), "context_events[0].item_id"),
    (recommend(context_events=[view(value=math.nan)]), "context_events[0].value"),
    (recommend(context_events=[view(value=-1.0)]), "context_events[0].value"),
    (recommend(context_events=[view(item_id=LONG)]), "context_events[0].item_id"),
    (recommend(context_events=[view(event_time={"seconds": NOW_MS // 1000 + 301})]), "context_events[0].event_time"),
]

EVENTS = [
    (view(event_id=""), "event.event_id"),
    (view(event_id=LONG), "event.event_id"),
    (view(event_id=NUL), "event.event_id"),
    (view(event_type=0), "event.event_type"),
    (view(event_type=77), "event.event_type"),
    (view(session_id=""), "event.session_id"),
    (view(session_id=LONG), "event.session_id"),
    (view(user_id=CONTROL), "event.user_id"),
    (view(item_id=""), "event.item_id"),
    (view(item_id=LONG_IN_BYTES), "event.item_id"),
    (view(value=math.nan), "event.value"),
    (view(value=math.inf), "event.value"),
    (view(value=-1.0), "event.value"),
    (view(quantity=-1), "event.quantity"),
    (view(dwell_ms=-1), "event.dwell_ms"),
    (view(currency_code="EURO"), "event.currency_code"),
    (view(recommendation_id=LONG), "event.recommendation_id"),
    (view(properties=attributes(65)), "event.properties"),
    (view(properties={"": "v"}), "event.properties (a key)"),
    (view(properties={NUL: "v"}), "event.properties (a key)"),
    (view(properties={"k": "v" * 1025}), "event.properties (a value)"),
    (view(event_type=pb.EVENT_TYPE_SEARCH), "event.search_query"),
    (view(event_type=pb.EVENT_TYPE_SEARCH, search_query="q" * 1025), "event.search_query"),
    (view(event_type=pb.EVENT_TYPE_IMPRESSION, item_id=""), "event.item_id"),
    (view(event_type=pb.EVENT_TYPE_IMPRESSION, impression_item_ids=["a"] * 501), "event.impression_item_ids"),
    (view(event_type=pb.EVENT_TYPE_IMPRESSION, impression_item_ids=["a", NUL]), "event.impression_item_ids[1]"),
    (view(event_time={"seconds": NOW_MS // 1000 + 301}), "event.event_time"),
    (view(event_time={"seconds": 1 << 60}), "event.event_time"),
    (view(event_time={"nanos": -1}), "event.event_time"),
]

OTHERS = [
    ("IngestEvent", pb.IngestEventRequest(), "event"),
    ("BatchIngestEvents", pb.BatchIngestEventsRequest(), "events"),
    ("BatchIngestEvents", pb.BatchIngestEventsRequest(events=[view()] * 501), "events"),
    ("BatchRecommend", pb.BatchRecommendRequest(), "requests"),
    ("BatchRecommend", pb.BatchRecommendRequest(requests=[recommend()] * 101), "requests"),
    ("GetContext", pb.GetContextRequest(), "session_id"),
    ("GetContext", pb.GetContextRequest(user_id=NUL), "user_id"),
    ("GetContext", pb.GetContextRequest(session_id=LONG), "session_id"),
    ("GetExplanations", pb.GetExplanationsRequest(), "explanation_token"),
    ("GetExplanations", pb.GetExplanationsRequest(explanation_token=LONG), "explanation_token"),
]


def names(rows: list[Any]) -> list[str]:
    return [f"{row[-1]}-{number}" for number, row in enumerate(rows)]


def refused(service: Service, method: str, body: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        service.unary(method, body)
    return caught.value


@pytest.mark.parametrize(("request_", "field"), RECOMMEND, ids=names(RECOMMEND))
def test_recommend_names_the_field_that_is_wrong(service: Service, request_: Any, field: str) -> None:
    failure = refused(service, "Recommend", request_)
    assert (failure.code, failure.fields()) == (INVALID, [field])
    assert field in failure.text
    assert service.recommender.queries == []


@pytest.mark.parametrize(("event", "field"), EVENTS, ids=names(EVENTS))
def test_ingest_names_the_field_that_is_wrong(service: Service, event: pb.Event, field: str) -> None:
    failure = refused(service, "IngestEvent", pb.IngestEventRequest(event=event))
    assert (failure.code, failure.fields()) == (INVALID, [field])
    assert service.ingestor.events == []


@pytest.mark.parametrize(("method", "request_", "field"), OTHERS, ids=names(OTHERS))
def test_the_other_methods_name_the_field_that_is_wrong(
    service: Service, method: str, request_: Any, field: str
) -> None:
    failure = refused(service, method, request_)
    assert (failure.code, failure.fields()) == (INVALID, [field])
    assert service.ingestor.events == []


ALL = [
    *(("Recommend", body, field) for body, field in RECOMMEND),
    *(("IngestEvent", pb.IngestEventRequest(event=event), field) for event, field in EVENTS),
    *OTHERS,
    *((method, GARBAGE["garbage"], "request") for method in UNARY),
]


def test_every_violation_has_a_reason_that_the_contract_names(service: Service) -> None:
    contract = " ".join(line.strip("/ ") for line in contract_text().split("\n"))
    stated = re.search(r"FieldViolation\.reason is one of ([A-Z_, ]+)\.", contract)
    assert stated is not None
    known, seen = set(stated[1].split(", ")), set()
    for method, body, _ in ALL:
        violations = refused(service, method, body).detail(error_details_pb2.BadRequest).field_violations
        seen |= {violation.reason for violation in violations}
    # What has no narrower one is INVALID.
    assert seen == known - {"INVALID"}
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]+[A-Z0-9]", reason) for reason in known)


def test_every_problem_of_a_request_is_told_at_once(service: Service) -> None:
    failure = refused(service, "Recommend", recommend(session_id=NUL, page_size=-5, diversity=7.0))
    assert failure.fields() == ["session_id", "page_size", "diversity"]


@pytest.mark.parametrize("method", UNARY)
@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
def test_malformed_bytes_are_an_invalid_argument(service: Service, method: str, body: bytes) -> None:
    failure = refused(service, method, body)
    assert (failure.code, failure.fields()) == (INVALID, ["request"])


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
def test_malformed_bytes_are_an_invalid_argument_on_streams_too(service: Service, body: bytes) -> None:
    with pytest.raises(Failure) as caught:
        service.server_stream("WatchExplanations", body)
    assert (caught.value.code, caught.value.fields()) == (INVALID, ["request"])
    answers, failure = service.events([body])
    assert answers == []
    assert failure is not None
    assert (failure.code, failure.fields()) == (INVALID, ["request"])


@pytest.mark.parametrize("method", ["Check", "Watch"])
def test_malformed_bytes_are_an_invalid_argument_of_health_too(service: Service, method: str) -> None:
    multi = service.channel.unary_unary if method == "Check" else service.channel.unary_stream
    call = multi(f"/grpc.health.v1.Health/{method}")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(b"\xff\xff", timeout=HANG_GUARD_S))
    assert Failure(caught.value).code == INVALID


@pytest.mark.parametrize("field", ["filter", "page_token"])
def test_what_is_promised_for_later_is_unimplemented(service: Service, field: str) -> None:
    failure = refused(service, "Recommend", recommend(**{field: "x"}))
    assert failure.code == grpc.StatusCode.UNIMPLEMENTED
    assert field in failure.text


def test_an_unknown_method_is_unimplemented(service: Service) -> None:
    assert refused(service, "NoSuchMethod", b"").code == grpc.StatusCode.UNIMPLEMENTED


def test_ids_at_the_limit_pass(service: Service) -> None:
    service.unary("Recommend", recommend(session_id="x" * 256, user_id="é" * 128, exclude_item_ids=["a"] * 1000))
    assert len(service.recommender.queries[0].exclude_item_ids) == 1000


def test_a_request_wrong_in_a_thousand_places_still_gets_a_status_that_fits(service: Service) -> None:
    failure = refused(service, "Recommend", recommend(exclude_item_ids=[NUL] * 1000, anchor_item_ids=[LONG] * 100))
    assert failure.code == INVALID
    assert 0 < len(failure.fields()) < 100
    assert failure.trailing_bytes < 4096


def test_huge_metadata_is_resource_exhausted(service: Service) -> None:
    with pytest.raises(Failure) as caught:
        service.unary("Recommend", metadata=(("x-big", "v" * 100_000),))
    assert caught.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_compressed_message_within_the_limit_passes(service: Service) -> None:
    service.unary("Recommend", recommend(exclude_item_ids=["a"] * 1000), compression=grpc.Compression.Gzip)


def test_error_info_carries_the_domain_a_reason_and_the_request_id(service: Service) -> None:
    with pytest.raises(Failure) as caught:
        service.unary("Recommend", recommend(page_size=-1), metadata=(("x-request-id", "req-7"),))
    info = caught.value.detail(error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason, dict(info.metadata)) == ("recserv", "INVALID_INPUT", {"request_id": "req-7"})


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("Recommend", recommend(exclude_item_ids=[NUL] * 200)),
        ("BatchRecommend", pb.BatchRecommendRequest(requests=[recommend(page_size=-1)])),
        ("IngestEvent", pb.IngestEventRequest(event=view(item_id=LONG))),
        ("BatchIngestEvents", pb.BatchIngestEventsRequest(events=[view(item_id=LONG)])),
        ("WatchExplanations", pb.WatchExplanationsRequest(explanation_token=LONG)),
        ("WatchRecommendations", pb.WatchRecommendationsRequest(request=recommend(page_token="x", user_id="u"))),
        ("Recommend", b"\0" * (5 * 1024 * 1024)),
    ],
    ids=["recommend", "batch entry", "event", "batch of events", "stream", "watch", "too large"],
)
def test_a_refused_request_is_gone_at_once(service: Service, method: str, request_: Any) -> None:
    """Errors hold frames and these the request: a flood of bad ones must not wait in memory for the collector."""
    with nothing_of_a_call_stays(), contextlib.suppress(Failure):
        service.unary(method, request_)


@pytest.mark.parametrize("body", [b"\xff", pb.StreamEventsRequest(events=[view()] * 501)], ids=["parsing", "a group"])
def test_a_stream_that_ends_with_an_error_is_gone_at_once(service: Service, body: Any) -> None:
    with nothing_of_a_call_stays(), pytest.raises(grpc.RpcError):
        list(service.open_events([body]))
