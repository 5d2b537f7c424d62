from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import validate
from starlette.convertors import PathConvertor

from recserv import v1 as pb
from recserv.gateway.calls import Target
from recserv.gateway.openapi import openapi_document
from recserv.gateway.routes import Gateway
from recserv.gateway.settings import GatewaySettings
from tests.gateway.support import LiveGateway


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document()


def test_the_document_is_valid_and_served(document: dict[str, Any], gateway: LiveGateway) -> None:
    validate(document)
    assert gateway.send("GET", "/openapi.json").json == document


def test_the_document_has_every_path_of_the_gateway_but_its_own(document: dict[str, Any]) -> None:
    gateway = Gateway(GatewaySettings(target=""), _NoTarget())
    routes = {
        (route.path_format, method.lower())
        for route in gateway.routes()
        for method in (route.methods or set()) - {"HEAD"}
    }
    told = {(path, method) for path, item in document["paths"].items() for method in item}
    assert routes - told == {(path, "get") for path in ("/healthz", "/openapi.json", "/openapi-tools.json")}
    assert told - routes == set()
    assert any(isinstance(one, PathConvertor) for route in gateway.routes() for one in route.param_convertors.values())


class _NoTarget(Target):
    def __init__(self) -> None:
        pass


def test_everything_in_it_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    bare = [name for name, schema in schemas.items() if not schema["description"]]
    bare += [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, inner in schema.get("properties", {}).items()
        if not inner["description"]
    ]
    assert bare == []
    assert schemas["EventType"]["enum"] == list(pb.EventType.keys())
    assert schemas["Event"]["required"] == ["eventType"]
    assert schemas["GetContextResponse"]["properties"]["eventCount"]["type"] == "string"


def test_what_only_requests_hold_is_closed_as_the_gateway_refuses_unknown_fields(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    closed = {name for name, schema in schemas.items() if schema.get("additionalProperties") is False}
    assert {"Event", "RecommendRequest", "BatchIngestEventsRequest"} <= closed
    # A newer server may say more.
    assert not closed & {"RecommendResponse", "Item", "Error", "GetContextResponse"}


def test_a_query_has_the_fields_that_fit_into_one(document: dict[str, Any]) -> None:
    told = document["paths"]["/api/v1/recommendations"]["get"]["parameters"]
    names = {one["name"] for one in told if "name" in one}
    assert names == {field.name for field in pb.RecommendRequest.DESCRIPTOR.fields if field.message_type is None}
    assert "context_events" not in names
    [user] = [
        one for one in document["paths"]["/api/v1/context/{user_id}"]["get"]["parameters"] if one.get("in") == "path"
    ]
    assert (user["name"], user["required"]) == ("user_id", True)


def test_every_operation_tells_of_its_errors(document: dict[str, Any]) -> None:
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert {"400", "429", "503", "504", "default"} < set(operation["responses"])


def test_streams_are_described_as_such(document: dict[str, Any]) -> None:
    paths, schemas = document["paths"], document["components"]["schemas"]
    watch = paths["/api/v1/watch"]
    streams = {
        "WatchExplanationsResponse": paths["/api/v1/explanations/{token}"]["get"],
        "WatchRecommendationsResponse": watch["get"],
    }
    for name, operation in [*streams.items(), ("WatchRecommendationsResponse", watch["post"])]:
        answer = operation["responses"]["200"]
        assert list(answer["content"]) == ["text/event-stream"]
        assert name in answer["description"]
        assert name in schemas
    asked = {(one.get("name"), one.get("in")) for one in watch["get"]["parameters"]}
    assert {("session_id", "query"), ("last_event_id", "query"), ("last-event-id", "header")} < asked
    [body] = watch["post"]["requestBody"]["content"].values()
    assert body["schema"]["$ref"].endswith("/WatchRecommendationsRequest")
