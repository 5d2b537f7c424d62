"""What goes wrong, as HTTP: the status, the words, the details and what comes with them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2

from recserv import v1 as pb
from recserv.errors import EventConflict, EventTooOld, NotImplementedYet, Overloaded, StoreUnavailable
from recserv.gateway.answers import HTTP_STATUS, error_response, refusal
from tests.gateway.support import LiveGateway, free_port, gateway_to
from tests.patience import HANG_GUARD_S, eventually
from tests.server.harness import Service

EVENT = {"eventId": "e-1", "eventType": "EVENT_TYPE_VIEW", "sessionId": "s-1", "itemId": "item-1"}
EVENTS = "/api/v1/events"


def test_every_canonical_code_has_an_http_status() -> None:
    assert set(HTTP_STATUS) == set(code_pb2.Code.keys())


@pytest.mark.parametrize(
    ("error", "status", "code", "reason"),
    [
        (EventConflict("used"), 409, "ALREADY_EXISTS", "EVENT_ID_REUSED"),
        (EventTooOld("old"), 400, "OUT_OF_RANGE", "EVENT_TOO_OLD"),
        (NotImplementedYet("later"), 501, "UNIMPLEMENTED", "NOT_IMPLEMENTED"),
        (ValueError("secret"), 500, "INTERNAL", "INTERNAL"),
    ],
)
def test_an_error_of_the_server_keeps_its_words(
    error: Exception, status: int, code: str, reason: str, gateway: LiveGateway, service: Service
) -> None:
    service.ingestor.error = error
    reply = gateway.send("POST", EVENTS, EVENT)
    assert (reply.status, reply.error["status"]) == (status, code)
    assert (reply.detail("ErrorInfo")["reason"], reply.detail("ErrorInfo")["domain"]) == (reason, "recserv")
    assert "secret" not in reply.text


@pytest.mark.parametrize(("error", "status"), [(Overloaded("busy", 1), 429), (StoreUnavailable("down", 1), 503)])
def test_a_hint_to_try_again_goes_through(
    error: Exception, status: int, gateway: LiveGateway, service: Service
) -> None:
    service.ingestor.error = error
    reply = gateway.send("POST", EVENTS, EVENT)
    assert (reply.status, reply.headers["retry-after"]) == (status, "1")
    assert reply.detail("RetryInfo")["retryDelay"] == "0.001s"
    # What is tried again is the same event, so it costs nothing but the time.
    assert {event.event_id for event in service.ingestor.events} == {"e-1"}


def test_a_hint_is_a_header_of_whole_seconds_and_never_too_few() -> None:
    for delay_ms, seconds in ((0, "1"), (1000, "1"), (1001, "2")):
        status = refusal("UNAVAILABLE", "DOWN", "down", retry_after_ms=delay_ms).status
        assert error_response(status).headers["retry-after"] == seconds
    assert "retry-after" not in error_response(refusal("NOT_FOUND", "NOT_FOUND", "").status).headers


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"bogus": 1}, "bogus"),
        ({"contextEvents": [{}, {"item": "x"}]}, "contextEvents[1].item"),
        ({"contextEvents": [{"eventType": "STARE"}]}, "contextEvents[0].eventType"),
        ({"contextEvents": [{"eventTime": "yesterday"}]}, "contextEvents[0].eventTime"),
        ({"contextEvents": [3]}, "contextEvents[0]"),
        ({"contextEvents": {}}, "contextEvents"),
        ({"anchorItemIds": ["a", 5]}, "anchorItemIds[1]"),
        ({"anchorItemIds": "a"}, "anchorItemIds"),
        ({"pageSize": "ten"}, "pageSize"),
        ({"pageSize": 2**40}, "pageSize"),
        ({"userId": "\ud800"}, "userId"),
        ({"excludePurchased": "yes"}, "excludePurchased"),
        ({"userAttributes": {"a": 1}}, "userAttributes"),
        ({"explain": {}}, "explain"),
        ({"pageSize": 101}, "page_size"),
        ({"excludeItemIds": ["x"] * 1001}, "exclude_item_ids"),
    ],
)
def test_a_bad_field_is_named_with_its_place(
    body: dict[str, Any], field: str, gateway: LiveGateway, service: Service
) -> None:
    reply = gateway.rpc("Recommend", body)
    assert (reply.status, reply.error["status"], reply.fields()) == (400, "INVALID_ARGUMENT", [field])
    assert service.recommender.queries == []


def test_every_bad_field_is_told_at_once_and_not_without_end(gateway: LiveGateway) -> None:
    assert gateway.rpc("Recommend", {"a": 1, "pageSize": [], "userId": "fine"}).fields() == ["a", "pageSize"]
    assert len(gateway.rpc("Recommend", {f"x{n}": n for n in range(100)}).fields()) == 20


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"userId": ', "line 1 column 12"),
        (b'{\n"userId" "x"}', "line 2 column 10"),
        (b'{"userId": "\xff"}', "not UTF-8 at byte 12"),
        (b'{"diversity": NaN}', "NaN is no number"),
        (b'{"userId": "a", "userId": "b"}', "'userId' is given twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "must be an object"),
        (b"null", "must be an object"),
        (b"1" * 5000, "no JSON"),
    ],
)
def test_what_is_no_json_is_told_with_its_place(body: bytes, said: str, gateway: LiveGateway) -> None:
    reply = gateway.rpc("Recommend", body)
    assert (reply.status, reply.detail("ErrorInfo")["reason"]) == (400, "JSON_MALFORMED")
    assert said in reply.error["message"]


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_beyond_the_limit_is_413_and_read_no_further(
    announced: bool, own_gateway: Callable[..., LiveGateway]
) -> None:
    gateway = own_gateway(body_bytes_max=1024)
    fits = b'{"userId": "%s"}' % (b"x" * 100)
    assert gateway.rpc("Recommend", fits.ljust(1024)).status == 200
    host, port = gateway.address.split(":")
    with socket.create_connection((host, int(port)), timeout=HANG_GUARD_S) as raw:
        length = b"Content-Length: 99999999" if announced else b"Transfer-Encoding: chunked"
        raw.sendall(
            b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + length + b"\r\n\r\n"
        )
        if not announced:
            # Never ended: whoever waited for the end would wait for ever.
            raw.sendall(b"401\r\n" + b" " * 1025 + b"\r\n")
        head = raw.recv(65536)
    assert head.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "text/plain"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"content_type": ""},
        {"content_encoding": "gzip"},
    ],
)
def test_a_body_of_another_type_is_415(headers: dict[str, str], gateway: LiveGateway, service: Service) -> None:
    reply = gateway.send("POST", EVENTS, EVENT, **headers)
    assert (reply.status, reply.detail("ErrorInfo")["reason"]) == (415, "CONTENT_TYPE")
    assert service.ingestor.events == []


def test_the_charset_of_json_may_be_said(gateway: LiveGateway) -> None:
    assert gateway.send("POST", EVENTS, EVENT, content_type="application/json; charset=utf-8").status == 200


def test_a_path_and_a_method_that_are_not_there_are_json_too(gateway: LiveGateway) -> None:
    for path in ("/", "/api/v1/nothing", "/api/v1/events/", "/rpc/recserv.v1.RecommendationService/StreamEvents"):
        assert gateway.send("POST", path, {}).error["status"] == "NOT_FOUND"
    reply = gateway.send("GET", EVENTS)
    assert (reply.error["status"], reply.status, reply.headers["allow"]) == ("UNIMPLEMENTED", 405, "POST")


def test_the_callers_request_id_goes_through_and_comes_back(gateway: LiveGateway, service: Service) -> None:
    assert gateway.rpc("Recommend", {}, x_request_id="r-42").headers["x-request-id"] == "r-42"
    assert gateway.rpc("Recommend", {"requestId": "own"}, x_request_id="r-42").status == 200
    assert gateway.rpc("BatchRecommend", {"requests": [{}]}, x_request_id="r-42").status == 200
    assert [query.request_id for query in service.recommender.queries] == ["r-42", "own", "r-42"]
    service.ingestor.error = EventConflict("used")
    reply = gateway.send("POST", EVENTS, EVENT, x_request_id="r-43")
    assert reply.detail("ErrorInfo")["metadata"] == {"request_id": "r-43"}
    assert gateway.send("GET", "/nothing", x_request_id="r-44").headers["x-request-id"] == "r-44"


@pytest.mark.parametrize("given", ["", "x" * 129, "two words"])
def test_a_request_id_that_cannot_go_on_is_replaced(given: str, gateway: LiveGateway) -> None:
    named = gateway.rpc("Recommend", {}, x_request_id=given).headers["x-request-id"]
    assert named != given
    assert len(named) == 32


def test_the_deadline_is_the_callers_up_to_a_maximum(
    gateway: LiveGateway, own_gateway: Callable[..., LiveGateway], service: Service
) -> None:
    service.recommender.hold_contexts = threading.Event()
    reply = gateway.rpc("GetContext", {"userId": "u"}, x_request_timeout_ms="30")
    assert (reply.status, reply.error["status"]) == (504, "DEADLINE_EXCEEDED")
    short = own_gateway(timeout_ms=30, timeout_ms_max=40)
    # Without a body, which might not come in so short a time either.
    assert short.send("GET", "/api/v1/context?user_id=u").status == 504
    assert short.send("GET", "/api/v1/context?user_id=u", x_request_timeout_ms="999999").status == 504
    service.recommender.hold_contexts.set()


@pytest.mark.parametrize(
    "headers",
    [
        {"x_request_timeout_ms": "0"},
        {"x_request_timeout_ms": "soon"},
        {"x_request_timeout_ms": "1" * 13},
        {"x_recserv_priority": "first"},
    ],
)
def test_a_header_that_says_nothing_is_named(headers: dict[str, str], gateway: LiveGateway) -> None:
    reply = gateway.rpc("Recommend", {}, **headers)
    assert (reply.status, reply.fields()) == (400, [name.replace("_", "-") for name in headers])


def test_the_priority_goes_on_before_the_message() -> None:
    from recserv.gateway.calls import how_of

    def told(headers: dict[str, str], **fields: Any) -> list[str]:
        how = how_of(headers, "r", pb.RecommendRequest(**fields), 1, 1)
        return [value for key, value in how.metadata if key == "x-recserv-priority"]

    assert told({"x-recserv-priority": "LOW"}) == ["low"]
    assert told({"x-recserv-priority": "normal"}, priority=pb.PRIORITY_HIGH) == []
    assert told({}, priority=pb.PRIORITY_HIGH) == ["high"]
    assert told({}, priority=77) == []


def test_beyond_its_places_the_gateway_turns_away_and_still_says_that_it_lives(
    own_gateway: Callable[..., LiveGateway], service: Service
) -> None:
    gateway = own_gateway(max_in_flight=1)
    service.recommender.hold = threading.Event()
    with futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(gateway.rpc, "Recommend", {})
        assert service.recommender.entered.acquire(timeout=HANG_GUARD_S)
        reply = gateway.rpc("Recommend", {})
        assert (reply.status, reply.detail("ErrorInfo")["reason"]) == (429, "GATEWAY_BUSY")
        assert reply.headers["retry-after"] == "1"
        assert gateway.send("GET", "/healthz").status == 200
        service.recommender.hold.set()
        assert first.result(HANG_GUARD_S).status == 200
    assert gateway.rpc("Recommend", {}).status == 200


class _Contexts(grpc.GenericRpcHandler):
    """A server as plain as can be."""

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: pb.GetContextResponse(event_count=7).SerializeToString()
        )


def test_a_target_that_is_not_there_is_503_until_it_is(service: Service) -> None:
    address = f"127.0.0.1:{free_port()}"
    with gateway_to(address, service._loop) as gateway:
        reply = gateway.rpc("GetContext", {"userId": "u"})
        assert (reply.status, reply.error["status"], reply.headers["retry-after"]) == (503, "UNAVAILABLE", "1")
        assert reply.detail("ErrorInfo")["reason"] == "TARGET_UNREACHABLE"
        assert "127.0.0.1" not in reply.text
        assert gateway.send("GET", "/healthz").status == 503
        server = grpc.server(futures.ThreadPoolExecutor(1), handlers=(_Contexts(),))
        server.add_insecure_port(address)
        server.start()
        try:
            eventually(lambda: gateway.rpc("GetContext", {"userId": "u"}).status == 200, "the gateway finds the server")
        finally:
            server.stop(None)


def test_a_failure_inside_is_told_without_its_words(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Any) -> bytes:
        raise ValueError("secret")

    monkeypatch.setattr("recserv.gateway.answers.message_json", broken)
    reply = gateway.rpc("Recommend", {}, x_request_id="r-45")
    assert (reply.status, reply.error["message"]) == (500, "internal error")
    assert reply.headers["x-request-id"] == "r-45"
    # The answer goes first.
    eventually(lambda: _logged(caplog) == [{"request_id": "r-45"}], "the log has it")


def _logged(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record.fields for record in caplog.records if record.message == "a request failed"]  # type: ignore[attr-defined]
