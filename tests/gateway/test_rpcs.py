"""Every unary RPC through JSON is the same RPC through gRPC, for whatever is asked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recserv import v1 as pb
from recserv.gateway.methods import UNARY
from recserv.types import Item, Result, Source
from recserv.v1 import recommendation_service_pb2
from tests.gateway.support import LiveGateway
from tests.server.harness import NOW_MS, Failure, Service, answer

REQUEST_ID = "one-of-ours"
IDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=6)
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: IDS,
    FieldDescriptor.TYPE_INT32: st.integers(-1, 101),
    FieldDescriptor.TYPE_INT64: st.integers(0, 2**53 + 1),
    FieldDescriptor.TYPE_DOUBLE: st.floats(0, 1),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
}
TIMES = st.builds(lambda ago: {"seconds": NOW_MS // 1000 - ago}, st.integers(0, 1000))
NOT_BUILT = {"page_token", "filter"}


def _value(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return st.dictionaries(IDS, IDS, max_size=2)
    if message is not None:
        one = TIMES if message.full_name == "google.protobuf.Timestamp" else _fields(message)
    elif field.enum_type is not None:
        one = st.sampled_from([value.number for value in field.enum_type.values])
    else:
        one = SCALARS[field.type]
    return st.lists(one, max_size=2) if field.is_repeated else one


def _fields(descriptor: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    fields = [field for field in descriptor.fields if field.name not in NOT_BUILT]
    return st.fixed_dictionaries({}, optional={field.name: _value(field) for field in fields})


def test_every_unary_rpc_has_a_path_and_no_other_has() -> None:
    [service] = recommendation_service_pb2.DESCRIPTOR.services_by_name.values()
    streaming = {"StreamEvents", "WatchExplanations", "WatchRecommendations"}
    assert set(UNARY) == set(service.methods_by_name) - streaming
    assert UNARY["Recommend"].path == "/rpc/recserv.v1.RecommendationService/Recommend"


def _through_grpc(service: Service, method: str, request: Message) -> tuple[str, Any]:
    try:
        raw = service.unary(method, request, metadata=(("x-request-id", REQUEST_ID),))
    except Failure as failure:
        return failure.code.name, failure.status
    return "OK", UNARY[method].response.FromString(raw)


def _seen(service: Service) -> list[Any]:
    queries = [msgspec.structs.replace(query, request_id="") for query in service.recommender.queries]
    seen = [*queries, *service.recommender.keys, *service.ingestor.events]
    service.reset()
    return seen


@pytest.mark.parametrize("method", UNARY)
def test_an_rpc_through_json_is_the_same_through_grpc(method: str, gateway: LiveGateway, service: Service) -> None:
    outcomes = set()

    @settings(max_examples=24, suppress_health_check=list(HealthCheck))
    @given(fields=_fields(UNARY[method].request.DESCRIPTOR))
    def run(fields: dict[str, Any]) -> None:
        request = UNARY[method].request(**fields)
        code, expected = _through_grpc(service, method, request)
        seen = _seen(service)
        reply = gateway.rpc(method, json_format.MessageToDict(request), x_request_id=REQUEST_ID)
        assert _seen(service) == seen
        outcomes.add(code)
        if code == "OK":
            assert reply.status == 200
            assert json_format.ParseDict(reply.json, UNARY[method].response()) == expected
        else:
            assert (reply.error["status"], reply.error["message"]) == (code, expected.message)
            assert reply.error["details"] == [json_format.MessageToDict(detail) for detail in expected.details]

    run()
    assert outcomes


def test_both_spellings_of_a_name_are_understood(gateway: LiveGateway, service: Service) -> None:
    for body in ({"sessionId": "s", "pageSize": 7}, {"session_id": "s", "page_size": "7"}):
        assert gateway.rpc("Recommend", body).status == 200
        assert [(query.session_id, query.page_size) for query in service.recommender.queries] == [("s", 7)]
        service.reset()


def test_an_empty_body_is_a_request_without_a_field(gateway: LiveGateway) -> None:
    assert len(gateway.rpc("Recommend", b"").json["results"]) == 3


def test_fields_at_their_default_are_left_out(gateway: LiveGateway) -> None:
    reply = gateway.rpc("Recommend", {}).json
    assert set(reply) == {"results", "recommendationId", "modelVersion"}
    assert reply["results"][0] == {"itemId": "item-0", "score": 1.0, "rank": 1, "source": "SOURCE_POPULAR"}


def test_a_degraded_answer_says_so_in_a_header(gateway: LiveGateway) -> None:
    reply = gateway.rpc("Recommend", {"sessionId": "degraded"})
    assert reply.headers["x-recserv-degraded"] == "INDEX_UNAVAILABLE"
    assert reply.json["degradedReasons"] == ["DEGRADED_REASON_INDEX_UNAVAILABLE"]
    assert "x-recserv-degraded" not in gateway.rpc("Recommend", {}).headers


HOSTILE = ['<script>alert("x")</script>', "</title><img src=x onerror=alert(1)>", "\u2028\u202e\u0007", "t" * 10_000]


@pytest.mark.parametrize("title", HOSTILE)
def test_a_hostile_title_is_text_in_json_and_never_a_page(title: str, gateway: LiveGateway, service: Service) -> None:
    item = Item(item_id="a", title=title)
    service.recommender.answer = answer(
        results=(Result(item_id="a", score=1.0, rank=1, source=Source.POPULAR, item=item),)
    )
    reply = gateway.rpc("Recommend", {"returnItems": True})
    assert reply.json["results"][0]["item"]["title"] == title
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"


def test_a_large_answer_and_a_large_request_are_whole(gateway: LiveGateway, service: Service) -> None:
    events = [{"eventId": f"e-{n}", "eventType": "EVENT_TYPE_VIEW", "sessionId": "s" * 200} for n in range(499)]
    good = {"eventId": "good", "eventType": 1, "sessionId": "s", "itemId": "i"}
    reply = gateway.rpc("BatchIngestEvents", {"events": [*events, good]})
    results = json_format.ParseDict(reply.json, pb.BatchIngestEventsResponse()).results
    assert [result.status for result in results] == [pb.INGEST_STATUS_REJECTED] * 499 + [pb.INGEST_STATUS_ACCEPTED]
    assert len(reply.text) > 64 * 1024
