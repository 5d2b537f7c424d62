"""Whatever is sent to a path of /openapi.json, the answer is one that the document tells of, and no fault of a server.

The gate sends the same requests each time: every operation with each of its values spoiled, by turns in every way of a
list, bodies that are none, and methods that are not there. The lane `fuzz` leaves the choice to schemathesis.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from openapi_schema_validator import OAS30Validator

from recserv.gateway.openapi import WATCH_PATH, openapi_document
from tests.gateway.support import LiveGateway, Reply
from tests.patience import HANG_GUARD_S

EXAMPLES = 150
HONEST = {501, 503, 504}
"""Not built, nobody there, too late: what a caller is told of a server that is not at fault."""
VALUES: list[Any] = [
    *[
        None,
        True,
        0,
        -1,
        1.5,
        2**31,
        2**63,
        1e308,
        "",
        "a",
        "\u0000",
        "\u202e<b>",
        "x" * 5_000,
        "NaN",
        "1",
        "2026-01-31T12:00:00Z",
    ],
    *[[], [[]], [None], ["a", 1], {}, {"a": 1}, {"": None}, [{}]],
]
BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"x"',
    b"\xff",
    b"[" * 5_000,
    b'{"a":' * 200,
    b'{"a":1,"a":2}',
    b"{}",
    b"\xef\xbb\xbf{}",
]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]
DOCUMENT = openapi_document()
OPERATIONS = [
    (path, method, operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
]
IDS = [operation["operationId"] for _, _, operation in OPERATIONS]


@cache
def _validator(reference: str) -> OAS30Validator:
    return OAS30Validator({"$ref": reference, "components": DOCUMENT["components"]})


def _turns(names: list[str]) -> Iterator[tuple[str, Any]]:
    """Each name and each of the values at least once."""
    for place in range(max(len(names), len(VALUES))):
        yield names[place % len(names)], VALUES[place % len(VALUES)]


def _check(reply: Reply, operation: dict[str, Any]) -> int:
    told = operation["responses"]
    assert reply.status < 500 or reply.status in HONEST, reply.text
    assert str(reply.status) in told, (reply.status, reply.text)
    content = told[str(reply.status)]["content"]
    kind = reply.headers["content-type"].partition(";")[0]
    assert kind in content
    if kind == "application/json":
        _validator(content[kind]["schema"]["$ref"]).validate(json.loads(reply.text))
    return reply.status


def _sent(gateway: LiveGateway, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    """Of a stream that never ends by itself: its head."""
    if not path.startswith(WATCH_PATH):
        return gateway.send(method.upper(), path, body, **headers)
    named = {name.replace("_", "-"): value for name, value in headers.items()} | {"content-type": "application/json"}
    with gateway.http.stream(method.upper(), path, content=body, headers=named) as response:
        if response.headers["content-type"].startswith("text/event-stream"):
            return Reply(httpx.Response(response.status_code, headers=response.headers))
        response.read()
        return Reply(response)


def _bodies(operation: dict[str, Any]) -> Iterator[bytes]:
    yield from BODIES
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    fields = DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]["properties"]
    for name, value in _turns([*fields, "bogus", ""]):
        yield json.dumps({name: value}).encode()
    # One level further down, where there is one.
    for name, field in fields.items():
        if field.get("type") == "array" or "allOf" in field:
            yield json.dumps({name: [{"sessionId": VALUES[len(name) % len(VALUES)]}]}).encode()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _paths(path: str, operation: dict[str, Any]) -> Iterator[str]:
    inner = next((one["name"] for one in operation["parameters"] if one.get("in") == "path"), None)
    if inner is not None:
        for value in VALUES:
            yield path.replace(f"{{{inner}}}", quote(_text(value), safe=""))
        path = path.replace(f"{{{inner}}}", "ready")
    names = [one["name"] for one in operation["parameters"] if one.get("in") == "query"]
    for name, value in _turns([*names, "bogus", ""]):
        yield f"{path}?{urlencode({name: _text(value)})}"
    yield f"{path}?{urlencode([('user_id', '1'), ('user_id', '2')])}"
    yield from (f"{path}?%ff=%ff", f"{path}?&&=&", f"{path}?%00=%00")


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=IDS)
def test_what_is_spoiled_is_answered_as_the_document_says(
    path: str, method: str, operation: dict[str, Any], gateway: LiveGateway
) -> None:
    statuses: Counter[int] = Counter()
    if "requestBody" in operation:
        for body in _bodies(operation):
            statuses[_check(_sent(gateway, method, path, body), operation)] += 1
    else:
        for spoiled in _paths(path, operation):
            statuses[_check(_sent(gateway, method, spoiled), operation)] += 1
    assert statuses[400] > 0 or statuses[404] > 0
    headers = {"x_request_timeout_ms": "soon", "x_recserv_priority": "", "x_request_id": "x" * 2_000}
    for name, value in headers.items():
        _check(_sent(gateway, method, path, b"{}" if method == "post" else None, **{name: value}), operation)


@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_a_method_that_is_not_there_is_405_and_no_page(path: str, gateway: LiveGateway) -> None:
    there = {method.upper() for method in DOCUMENT["paths"][path]}
    # A stream has no HEAD.
    streams = "text/event-stream" in str(DOCUMENT["paths"][path])
    there |= {"HEAD"} if "GET" in there and not streams else set()
    for other in sorted(set(METHODS) - there):
        reply = gateway.send(other, path, b"{}")
        assert (reply.status, set(reply.headers["allow"].split(", "))) == (405, there)
        if other != "HEAD":
            assert reply.error["status"] == "UNIMPLEMENTED"


@pytest.mark.fuzz
@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("label", IDS)
def test_schemathesis_finds_no_fault_of_the_server(label: str, mode: str, gateway: LiveGateway) -> None:
    import requests
    import schemathesis
    from hypothesis import HealthCheck, given, settings

    schema = schemathesis.openapi.from_url(f"http://{gateway.address}/openapi.json")
    operation = schema.find_operation_by_id(label)
    # Rules that are in words (lengths, ids, which fields go together) are no part of a schema.
    checks = [schemathesis.checks.CHECKS.get_one(name) for name in CHECKS]

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
    def run(case: Any) -> None:
        # Of a stream that never ends by itself there is a head and no more.
        with requests.request(**case.as_transport_kwargs(), stream=True, timeout=HANG_GUARD_S) as response:
            if response.headers["content-type"].startswith("text/event-stream"):
                assert response.status_code == 200
                return
            assert response.status_code < 500 or response.status_code in HONEST, response.text
            case.validate_response(response, checks=checks)

    run()


CHECKS = [
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
