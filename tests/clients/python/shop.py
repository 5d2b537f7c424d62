"""A shop's calls to recserv, on stubs generated from protos/: `python shop.py HOST:PORT`. One JSON line a step."""

from __future__ import annotations

import json
import random
import sys
import time
import uuid
from collections.abc import Iterator

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

sys.path.insert(0, "gen")
from recserv.v1 import context_pb2, events_pb2, recommendation_pb2
from recserv.v1.recommendation_service_pb2_grpc import RecommendationServiceStub

DEADLINE_S = 10.0
"""Generous, so that a first call on a cold machine is in time; a shop's page would wait for 0.2."""
ATTEMPTS_MAX = 5
RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


def say(step: str, **what: object) -> None:
    print(json.dumps({"step": step, **what}), flush=True)


def health(channel: grpc.Channel) -> None:
    request = health_pb2.HealthCheckRequest(service="recserv.v1.RecommendationService")
    answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=DEADLINE_S)
    say("health", status=health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def recommend(stub: RecommendationServiceStub, session_id: str) -> list[str]:
    request = recommendation_pb2.RecommendRequest(session_id=session_id, page_size=3)
    answer = stub.Recommend(request, timeout=DEADLINE_S)
    item_ids = [result.item_id for result in answer.results]
    say("recommend", item_ids=item_ids, degraded=answer.degraded)
    return item_ids


def ingest(stub: RecommendationServiceStub, event: events_pb2.Event) -> None:
    """The same event, with the same id, until it is acknowledged: it counts once however often it arrives."""
    request, ends_s = events_pb2.IngestEventRequest(event=event), time.monotonic() + DEADLINE_S
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            answer = stub.IngestEvent(request, timeout=ends_s - time.monotonic())
        except grpc.RpcError as error:
            pause_s = retry_delay_s(error, attempt)
            again = error.code() in RETRIED and attempt < ATTEMPTS_MAX
            if not again or time.monotonic() + pause_s >= ends_s:
                raise
            time.sleep(pause_s)
        else:
            status = events_pb2.IngestStatus.Name(answer.status)
            say("ingest", session_id=event.session_id, event_id=event.event_id, status=status, attempts=attempt)
            return


def retry_delay_s(error: grpc.RpcError, attempt: int) -> float:
    """What the server asks for; else a span that doubles, drawn so that clients do not come back together."""
    retry = error_details_pb2.RetryInfo()
    status = rpc_status.from_call(error)
    if status is not None and any(detail.Unpack(retry) for detail in status.details):
        return retry.retry_delay.ToTimedelta().total_seconds()
    return random.uniform(0.5, 1) * 0.05 * 2**attempt


def stream(stub: RecommendationServiceStub, events: list[events_pb2.Event]) -> None:
    """Many events over one call; answers come in order, a status for each event."""

    def requests() -> Iterator[events_pb2.StreamEventsRequest]:
        for event in events:
            yield events_pb2.StreamEventsRequest(events=[event])

    results = [
        {"event_id": result.event_id, "status": events_pb2.IngestStatus.Name(result.status)}
        for answer in stub.StreamEvents(requests(), timeout=DEADLINE_S)
        for result in answer.results
    ]
    say("stream", results=results)


def context(stub: RecommendationServiceStub, session_id: str) -> None:
    answer = stub.GetContext(context_pb2.GetContextRequest(session_id=session_id), timeout=DEADLINE_S)
    recent, cart = list(answer.recent_item_ids), list(answer.cart_item_ids)
    say("context", recent_item_ids=recent, cart_item_ids=cart, event_count=answer.event_count)


def batch(stub: RecommendationServiceStub, session_id: str) -> None:
    """A status for each request: the bad one does not spoil the good one."""
    good = recommendation_pb2.RecommendRequest(session_id=session_id, page_size=2)
    bad = recommendation_pb2.RecommendRequest(session_id=session_id, page_size=101)
    request = recommendation_pb2.BatchRecommendRequest(requests=[good, bad])
    for entry in stub.BatchRecommend(request, timeout=DEADLINE_S).responses:
        if entry.HasField("response"):
            say("batch", item_ids=[result.item_id for result in entry.response.results])
        else:
            say("batch", **described(entry.error))


def bad_request(stub: RecommendationServiceStub) -> None:
    try:
        stub.Recommend(recommendation_pb2.RecommendRequest(page_size=101), timeout=DEADLINE_S)
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        if status is None:
            raise
        say("bad_request", **described(status))


def described(status: status_pb2.Status) -> dict[str, object]:
    """What a status says to a program."""
    said: dict[str, object] = {"code": status.code}
    bad, info = error_details_pb2.BadRequest(), error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(bad):
            said["violations"] = [{"field": one.field, "reason": one.reason} for one in bad.field_violations]
        elif detail.Unpack(info):
            said["reason"] = info.reason
    return said


def main() -> None:
    session_id = uuid.uuid4().hex

    def event(event_type: int, item_id: str) -> events_pb2.Event:
        event_id = str(uuid.uuid4())
        return events_pb2.Event(event_id=event_id, event_type=event_type, session_id=session_id, item_id=item_id)

    with grpc.insecure_channel(sys.argv[1]) as channel:
        stub = RecommendationServiceStub(channel)
        health(channel)
        first, second, _ = recommend(stub, session_id)
        ingest(stub, event(events_pb2.EVENT_TYPE_VIEW, first))
        context(stub, session_id)
        no_type = events_pb2.EVENT_TYPE_UNSPECIFIED
        stream(stub, [event(events_pb2.EVENT_TYPE_ADD_TO_CART, second), event(no_type, second)])
        context(stub, session_id)
        batch(stub, session_id)
        bad_request(stub)


if __name__ == "__main__":
    main()
