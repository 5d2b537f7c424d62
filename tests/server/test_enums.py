from __future__ import annotations

from enum import IntEnum

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.rpc import code_pb2, error_details_pb2

from recserv import types
from recserv import v1 as pb
from tests.server.harness import Failure, Service, detail_of, view

ENUMS = {
    "EVENT_TYPE": types.EventType,
    "SOURCE": types.Source,
    "REASON_TYPE": types.ReasonType,
    "DEGRADED_REASON": types.DegradedReason,
    "EXPLAIN_MODE": types.ExplainMode,
    "EXPLANATION_STATE": types.ExplanationState,
    "PRIORITY": types.Priority,
    "INGEST_STATUS": types.IngestStatus,
    "TEMPLATE_CAUSE": types.TemplateCause,
}


@pytest.mark.parametrize("prefix", ENUMS)
def test_our_enums_have_the_names_and_numbers_of_the_wires(prefix: str) -> None:
    """`convert.enum` passes them on as they are."""
    ours: type[IntEnum] = ENUMS[prefix]
    wire = getattr(pb, ours.__name__)
    assert {f"{prefix}_{member.name}": int(member) for member in ours} == dict(wire.items())


def test_every_enum_of_the_wire_is_one_of_ours() -> None:
    wires = {
        name
        for module in vars(pb).values()
        if isinstance(file := getattr(module, "DESCRIPTOR", None), FileDescriptor) and file.package == "recserv.v1"
        for name in file.enum_types_by_name
    }
    assert {kind.__name__ for kind in ENUMS.values()} == wires


UNKNOWN = (-1, 77, 2**31 - 1, -(2**31))
OF_REQUESTS = {"Recommend": ["priority", "context_events.event_type", "explain"], "IngestEvent": ["event.event_type"]}


def _enum_fields(descriptor: Descriptor) -> list[str]:
    """The paths of all fields in a message whose type is an enum."""
    found = []
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_ENUM:
            found.append(field.name)
        elif field.message_type is not None and field.message_type.file.package == descriptor.file.package:
            found += [f"{field.name}.{path}" for path in _enum_fields(field.message_type)]
    return found


def _violations(details: error_details_pb2.BadRequest) -> list[tuple[str, str]]:
    return [(violation.field, violation.reason) for violation in details.field_violations]


def test_no_request_has_an_enum_that_is_not_asked_about_here() -> None:
    methods = pb.recommendation_service_pb2.DESCRIPTOR.services_by_name["RecommendationService"].methods
    found = {method.name: _enum_fields(method.input_type) for method in methods}
    batches = {
        "BatchRecommend": [f"requests.{path}" for path in OF_REQUESTS["Recommend"]],
        "BatchIngestEvents": ["events.event_type"],
        "StreamEvents": ["events.event_type"],
        # test_watch.py asks about all that can be wrong with a request of Recommend.
        "WatchRecommendations": [f"request.{path}" for path in OF_REQUESTS["Recommend"]],
    }
    assert {name: sorted(paths) for name, paths in found.items() if paths} == {
        name: sorted(paths) for name, paths in (OF_REQUESTS | batches).items()
    }


@pytest.mark.parametrize("number", UNKNOWN)
def test_a_value_of_an_enum_that_the_server_does_not_know_is_refused_by_name(service: Service, number: int) -> None:
    """To take it for UNSPECIFIED, as clients do, would be to answer another question."""
    recommends = {
        "priority": pb.RecommendRequest(priority=number),
        "explain": pb.RecommendRequest(explain=number),
        "context_events[0].event_type": pb.RecommendRequest(context_events=[view(event_type=number)]),
    }
    asked = [("Recommend", request, field) for field, request in recommends.items()]
    asked.append(("IngestEvent", pb.IngestEventRequest(event=view(event_type=number)), "event.event_type"))
    for method, request, field in asked:
        with pytest.raises(Failure) as caught:
            service.unary(method, request)
        assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
        assert _violations(caught.value.detail(error_details_pb2.BadRequest)) == [(field, "UNKNOWN_VALUE")]
    assert (service.recommender.queries, service.ingestor.events) == ([], [])


def test_in_a_batch_the_others_are_answered(service: Service) -> None:
    batch = pb.BatchRecommendRequest(requests=[pb.RecommendRequest(explain=UNKNOWN[0]), pb.RecommendRequest()])
    bad, good = pb.BatchRecommendResponse.FromString(service.unary("BatchRecommend", batch)).responses
    assert bad.error.code == code_pb2.INVALID_ARGUMENT
    assert _violations(detail_of(bad.error, error_details_pb2.BadRequest)) == [("requests[0].explain", "UNKNOWN_VALUE")]
    assert good.HasField("response")
    events = pb.BatchIngestEventsRequest(events=[view("e-1", event_type=UNKNOWN[0]), view("e-2")])
    results = pb.BatchIngestEventsResponse.FromString(service.unary("BatchIngestEvents", events)).results
    assert [result.status for result in results] == [pb.INGEST_STATUS_REJECTED, pb.INGEST_STATUS_ACCEPTED]
    assert [event.event_id for event in service.ingestor.events] == ["e-2"]
