"""What a call is given, what it answers, and what becomes of its failure."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc._cython import cygrpc

from recserv import v1 as pb
from recserv.client import wire
from recserv.errors import DeadlineTooNear, Overloaded, RecservError, StoreUnavailable
from recserv.server.assembly import SERVICE
from recserv.server.servicer import BATCH_RECOMMEND_AT_ONCE
from recserv.server.status import Interrupted, ServerDraining
from recserv.types import (
    DegradedReason,
    EventType,
    ExplainMode,
    ExplanationState,
    Item,
    Priority,
    Reason,
    ReasonType,
    RecommendQuery,
    Result,
    ShopperKey,
    Source,
)
from tests.patience import HANG_GUARD_S, eventually
from tests.server.harness import Failure, Service, answer, view

THREE_ATTEMPTS = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.01s",
                    "maxBackoff": "0.01s",
                    "backoffMultiplier": 1,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


def delayed(error: Any, retry_after_ms: int) -> RecservError:
    """An error of a kind whose delay is fixed, with another one."""
    error.retry_after_ms = retry_after_ms
    return error  # type: ignore[no-any-return]


def recommend(service: Service, timeout: float | None = HANG_GUARD_S, **fields: object) -> pb.RecommendResponse:
    return pb.RecommendResponse.FromString(service.unary("Recommend", pb.RecommendRequest(**fields), timeout))


def failure_of(service: Service, error: BaseException) -> Failure:
    service.recommender.error = error
    with pytest.raises(Failure) as caught:
        service.unary("Recommend", pb.RecommendRequest(session_id="s"))
    return caught.value


def test_an_empty_request_gets_the_defaults(service: Service) -> None:
    recommend(service)
    assert service.recommender.queries == [RecommendQuery()]
    [query] = service.recommender.queries
    assert (query.page_size, query.explain, query.priority) == (10, ExplainMode.REASONS, Priority.NORMAL)
    assert (query.exclude_purchased, query.diversity) == (None, None)


def test_every_field_of_a_request_arrives(service: Service) -> None:
    request = {
        "user_id": "u",
        "session_id": "s",
        "placement": "home",
        "priority": pb.PRIORITY_HIGH,
        "context_events": [view(event_time={"seconds": 5, "nanos": 6_000_000}, dwell_ms=7, value=1.5)],
        "anchor_item_ids": ["a"],
        "candidate_item_ids": ["c", "d"],
        "category": "toys",
        "page_size": 100,
        "exclude_item_ids": ["x", "x"],
        "exclude_purchased": False,
        "diversity": 0.0,
        "explain": pb.EXPLAIN_MODE_NONE,
        "consistency_token": "t",
        "return_items": True,
        "locale": "de",
        "device_type": "phone",
        "user_attributes": {"tier": "gold"},
        "request_id": "r",
    }
    recommend(service, **request)
    [query] = service.recommender.queries
    [event] = query.context_events
    assert (event.event_type, event.item_id, event.event_time_ms) == (EventType.VIEW, "item-1", 5006)
    assert (event.dwell_ms, event.value) == (7, 1.5)
    assert (query.user_id, query.session_id, query.placement, query.priority) == ("u", "s", "home", Priority.HIGH)
    assert (query.anchor_item_ids, query.candidate_item_ids) == (("a",), ("c", "d"))
    assert (query.category, query.page_size, query.exclude_item_ids) == ("toys", 100, ("x", "x"))
    assert query.exclude_purchased is False
    assert query.diversity == 0.0
    assert (query.explain, query.consistency_token, query.return_items) == (ExplainMode.NONE, "t", True)
    assert (query.locale, query.device_type, query.user_attributes) == ("de", "phone", {"tier": "gold"})
    assert query.request_id == "r"


def test_every_field_of_an_answer_arrives(service: Service) -> None:
    item = Item(
        item_id="a",
        title="A",
        categories=("x", "x/y"),
        price=1.5,
        available=False,
        attributes={"k": "v"},
        group_id="g",
    )
    service.recommender.answer = answer(
        results=(
            Result(
                item_id="a",
                score=0.5,
                rank=1,
                source=Source.COVISITATION,
                reasons=(Reason(ReasonType.OFTEN_BOUGHT_WITH, ("b", "c"), "Often bought with B"),),
                item=item,
                explanation="why",
                explanation_state=ExplanationState.PENDING,
            ),
        ),
        degraded_reasons=(DegradedReason.STALE_STATE, DegradedReason.DEADLINE),
        explanation_token="token",
        missing_item_ids=("gone",),
        missing_categories=("no such shelf",),
    )
    response = recommend(service)
    [result] = response.results
    assert (result.item_id, result.score, result.rank, result.source) == ("a", 0.5, 1, pb.SOURCE_COVISITATION)
    [reason] = result.reasons
    assert (reason.type, list(reason.because_item_ids)) == (pb.REASON_TYPE_OFTEN_BOUGHT_WITH, ["b", "c"])
    assert reason.text == "Often bought with B"
    assert (result.item.title, list(result.item.categories), result.item.price) == ("A", ["x", "x/y"], 1.5)
    assert (result.item.available, dict(result.item.attributes)) == (False, {"k": "v"})
    assert result.item.group_id == "g"
    assert result.item.HasField("available")
    assert not pb.Item().HasField("available")
    assert (result.explanation, result.explanation_state) == ("why", pb.EXPLANATION_STATE_PENDING)
    assert (response.recommendation_id, response.model_version) == ("r-1", "m-1")
    assert response.degraded
    assert list(response.degraded_reasons) == [pb.DEGRADED_REASON_STALE_STATE, pb.DEGRADED_REASON_DEADLINE]
    assert (response.explanation_token, list(response.missing_item_ids)) == ("token", ["gone"])
    assert list(response.missing_categories) == ["no such shelf"]
    assert wire.recommendation(response).missing_categories == ("no such shelf",)


def test_the_shoppers_context_is_asked_for_by_both_ids(service: Service) -> None:
    raw = service.unary("GetContext", pb.GetContextRequest(session_id="s", user_id="u"))
    response = pb.GetContextResponse.FromString(raw)
    assert service.recommender.keys == [("default", ShopperKey("s", "u"))]
    assert (list(response.recent_item_ids), response.event_count) == (["a"], 3)
    assert [(entry.category, entry.weight) for entry in response.category_weights] == [("toys", 0.5)]


@pytest.mark.parametrize(
    ("token", "state"), [("ready", pb.EXPLANATION_STATE_READY), ("pending", pb.EXPLANATION_STATE_PENDING)]
)
def test_explanations_are_pending_as_long_as_one_is(service: Service, token: str, state: int) -> None:
    raw = service.unary("GetExplanations", pb.GetExplanationsRequest(explanation_token=token))
    response = pb.GetExplanationsResponse.FromString(raw)
    assert [explanation.item_id for explanation in response.explanations] == ["a", "b"]
    assert response.state == state


def test_an_unknown_explanation_token_is_not_found(service: Service) -> None:
    with pytest.raises(Failure) as caught:
        service.unary("GetExplanations", pb.GetExplanationsRequest(explanation_token="nobody's"))
    assert caught.value.code == grpc.StatusCode.NOT_FOUND


def test_the_nearer_of_the_clients_deadline_and_the_servers_budget_is_the_budget(
    own_service: Callable[..., Service],
) -> None:
    service = own_service(recommend_budget_ms=100_000, default_deadline_ms=200_000)
    for timeout in (300.0, None, HANG_GUARD_S):
        recommend(service, timeout=timeout)
    far, none, near = service.recommender.budgets_s
    assert (far, none) == (100.0, 100.0)
    assert near < HANG_GUARD_S + 1


def test_without_a_clients_deadline_the_servers_default_is_the_budget_where_it_is_nearer(
    own_service: Callable[..., Service],
) -> None:
    service = own_service(recommend_budget_ms=100_000, default_deadline_ms=70_000)
    recommend(service, timeout=None)
    assert service.recommender.budgets_s == [70.0]


def test_every_entry_of_a_batch_has_the_budget_from_when_its_turn_comes(own_service: Callable[..., Service]) -> None:
    service = own_service(recommend_budget_ms=250)
    service.recommender.hold = threading.Event()
    call = service.channel.unary_unary(f"/{SERVICE}/BatchRecommend").future(
        pb.BatchRecommendRequest(requests=[pb.RecommendRequest()] * 20).SerializeToString(), timeout=HANG_GUARD_S
    )
    for _ in range(BATCH_RECOMMEND_AT_ONCE):
        assert service.recommender.entered.acquire(timeout=HANG_GUARD_S)
    # Longer than the budget, which the first ones have used up.
    service.clock.now_s += 1.0
    service.recommender.hold.set()
    call.result()
    assert service.recommender.budgets_s == [0.25] * 20


def test_a_degraded_answer_says_so_in_the_trailing_metadata(service: Service) -> None:
    call = service.channel.unary_unary(f"/{SERVICE}/Recommend")
    _, degraded = call.with_call(pb.RecommendRequest(session_id="degraded").SerializeToString(), timeout=HANG_GUARD_S)
    _, full = call.with_call(pb.RecommendRequest().SerializeToString(), timeout=HANG_GUARD_S)
    assert ("x-recserv-degraded", "INDEX_UNAVAILABLE") in degraded.trailing_metadata()
    assert not any(key == "x-recserv-degraded" for key, _ in full.trailing_metadata())


def test_a_call_that_hangs_beyond_the_default_deadline_is_ended(own_service: Callable[..., Service]) -> None:
    service = own_service(default_deadline_ms=50)
    service.recommender.hold = threading.Event()
    with pytest.raises(Failure) as caught:
        recommend(service, timeout=None)
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: service.server.admission.recommends.in_use == 0)


def test_a_deadline_already_past_means_no_work(service: Service) -> None:
    for timeout in (-1.0, 0.0, 1e-9):
        with pytest.raises(Failure) as caught:
            recommend(service, timeout=timeout)
        assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    # A later call on the same connection has the server's word that the others are through.
    recommend(service, session_id="after")
    assert [query.session_id for query in service.recommender.queries] == ["after"]


def test_a_client_that_goes_away_leaves_nothing_behind(service: Service) -> None:
    service.recommender.hold = threading.Event()
    counted = {"rpc": "Recommend", "status": "CANCELLED"}
    before = service.sample("recserv_requests_total", **counted)
    call = service.channel.unary_unary(f"/{SERVICE}/Recommend").future(b"")
    assert service.recommender.entered.acquire(timeout=HANG_GUARD_S)
    call.cancel()
    eventually(lambda: service.server.admission.recommends.in_use == 0)
    eventually(lambda: service.sample("recserv_requests_total", **counted) == before + 1)


def test_an_answer_that_grpc_could_not_send_is_a_client_gone_and_no_failure_inside(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    counted = {"rpc": "Recommend", "status": "CANCELLED"}
    before = service.sample("recserv_requests_total", **counted)
    assert failure_of(service, cygrpc.ExecuteBatchError("the client is gone")).code is grpc.StatusCode.CANCELLED
    assert service.sample("recserv_requests_total", **counted) == before + 1
    assert caplog.records == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Overloaded("full", 250), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (StoreUnavailable("down", 250), grpc.StatusCode.UNAVAILABLE),
        (delayed(ServerDraining("going"), 250), grpc.StatusCode.UNAVAILABLE),
        (delayed(Interrupted("cut off"), 250), grpc.StatusCode.UNAVAILABLE),
        (DeadlineTooNear("late"), grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
def test_an_error_keeps_its_meaning(service: Service, error: RecservError, code: grpc.StatusCode) -> None:
    failure = failure_of(service, error)
    assert (failure.code, failure.text) == (code, str(error))
    assert failure.detail(error_details_pb2.ErrorInfo).reason == error.reason
    retried = hasattr(error, "retry_after_ms")
    if retried:
        assert failure.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 250
    # What gRPC's own retry policies read.
    assert failure.trailing.get("grpc-retry-pushback-ms") == ("250" if retried else None)


@pytest.mark.parametrize("method", ["Recommend", "GetContext", "IngestEvent"])
def test_a_refused_call_is_sent_again_by_grpcs_own_retries(service: Service, method: str) -> None:
    """Which they do only while a client has seen nothing of an answer, headers neither."""
    counted = {"rpc": method, "status": "UNAVAILABLE"}
    before = service.sample("recserv_requests_total", **counted)
    service.recommender.error = service.ingestor.error = StoreUnavailable("down", 250)
    bodies = {"GetContext": pb.GetContextRequest(session_id="s"), "IngestEvent": pb.IngestEventRequest(event=view())}
    with grpc.insecure_channel(service.address, options=[("grpc.service_config", THREE_ATTEMPTS)]) as channel:
        call = channel.unary_unary(f"/{SERVICE}/{method}")
        with pytest.raises(grpc.RpcError) as caught:
            call(bodies.get(method, pb.RecommendRequest()).SerializeToString(), timeout=HANG_GUARD_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert service.sample("recserv_requests_total", **counted) == before + 3


def test_an_unexpected_error_is_internal_and_is_in_the_log_under_its_request_id(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="recserv.server")
    failure = failure_of(service, ZeroDivisionError("secret detail"))
    assert (failure.code, failure.text) == (grpc.StatusCode.INTERNAL, "internal error")
    assert "secret" not in str(failure.status)
    request_id = failure.detail(error_details_pb2.ErrorInfo).metadata["request_id"]
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.fields["request_id"] == request_id  # type: ignore[attr-defined]


def test_an_answer_is_logged_under_its_request_id_and_without_the_shoppers_ids(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="recserv.server")
    recommend(service, session_id="raw-session", user_id="raw-user", request_id="req-1")
    [fields] = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert (fields["request_id"], fields["recommendation_id"], fields["results"]) == ("req-1", "r-1", 3)
    assert fields["session"] != fields["user"]
    assert "raw-" not in str(fields)


def test_a_cancellation_from_inside_is_answered_and_leaves_no_client_hanging(service: Service) -> None:
    failure = failure_of(service, asyncio.CancelledError())
    assert failure.code == grpc.StatusCode.UNAVAILABLE
    assert failure.detail(error_details_pb2.ErrorInfo).reason == "INTERRUPTED"


def test_calls_are_counted_by_method_and_status(service: Service) -> None:
    def count(status: str) -> float:
        return service.sample("recserv_requests_total", rpc="Recommend", status=status)

    good, bad = count("OK"), count("INVALID_ARGUMENT")
    recommend(service)
    with pytest.raises(Failure):
        recommend(service, page_size=-1)
    eventually(lambda: (count("OK"), count("INVALID_ARGUMENT")) == (good + 1, bad + 1))


def test_events_that_fail_validation_are_counted(service: Service) -> None:
    before = service.sample("recserv_events_total", type="view", outcome="invalid_input")
    with pytest.raises(Failure):
        service.unary("IngestEvent", pb.IngestEventRequest(event=view(value=-1.0)))
    assert service.sample("recserv_events_total", type="view", outcome="invalid_input") == before + 1
    with pytest.raises(Failure):
        service.unary("IngestEvent", pb.IngestEventRequest(event=view(event_type=1234)))
    assert service.sample("recserv_events_total", type="unknown", outcome="invalid_input") >= 1
