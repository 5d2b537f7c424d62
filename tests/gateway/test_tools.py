"""The document for workflow tools: Dify takes it, and what Dify sends by it is understood."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from openapi_spec_validator import validate

from recserv import v1 as pb
from recserv.gateway.card import Options
from recserv.gateway.openapi import openapi_document
from recserv.gateway.tools import tools_document
from recserv.types import EventType, ExplainMode
from tests.gateway.dify import Refused, Tool, imported, request_of
from tests.gateway.support import LiveGateway, Reply
from tests.project_files import ROOT
from tests.server.harness import Service

URL = "https://shop.example/recserv"
NAMES = {"record_event", "get_context", "get_recommendations", "get_explanations", "get_card"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return tools_document(URL)


def test_dify_takes_the_document_and_has_five_tools(document: dict[str, Any]) -> None:
    validate(document)
    tools = imported(document)
    assert set(tools) == NAMES
    assert all(tool.url.startswith(f"{URL}/") for tool in tools.values())


def _with(document: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    change(changed)
    return changed


CARD: Callable[[dict[str, Any]], dict[str, Any]] = lambda document: document["paths"]["/card"]["get"]  # noqa: E731
SPOILED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no server": lambda document: document.update(servers=[]),
    "a server without an address": lambda document: document.update(servers=[{"url": "/"}]),
    "a slash too many": lambda document: document.update(servers=[{"url": "https://shop.example/"}]),
    "no name": lambda document: CARD(document).pop("operationId"),
    "a name with a dot": lambda document: CARD(document).update(operationId="recserv.card"),
    "the same name twice": lambda document: CARD(document).update(operationId="get_context"),
    "a reference": lambda document: CARD(document)["parameters"].append({"$ref": "#/components/parameters/x"}),
    "a list": lambda document: CARD(document)["parameters"][0].update(schema={"type": "array"}),
    "a header": lambda document: CARD(document)["parameters"][1].update({"in": "header"}),
    "no description": lambda document: CARD(document).update(description=""),
}


@pytest.mark.parametrize("change", SPOILED.values(), ids=SPOILED)
def test_dify_would_refuse(change: Callable[[dict[str, Any]], Any], document: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        imported(_with(document, change))


def test_the_whole_document_is_none_for_dify() -> None:
    with pytest.raises(Refused):
        imported(openapi_document(URL))


def test_the_document_says_nothing_that_the_contract_does_not(document: dict[str, Any]) -> None:
    recommend = {field.name for field in pb.RecommendRequest.DESCRIPTOR.fields}
    known = {
        "record_event": {field.name for field in pb.Event.DESCRIPTOR.fields},
        "get_context": {field.name for field in pb.GetContextRequest.DESCRIPTOR.fields},
        "get_recommendations": recommend,
        "get_explanations": {field.name for field in pb.GetExplanationsRequest.DESCRIPTOR.fields},
        "get_card": recommend | set(Options.__struct_fields__),
    }
    tools = imported(document)
    for name, tool in tools.items():
        assert set(tool.parameters) <= known[name]
    events = document["paths"]["/api/v1/events"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert events["properties"]["event_type"]["enum"] == list(pb.EventType.keys())[1:]
    whole = openapi_document()["paths"]
    assert {(path, *item) for path, item in document["paths"].items()} <= {
        (path, *item) for path, item in whole.items()
    }


def _use(gateway: LiveGateway, name: str, **given: Any) -> Reply:
    """As Dify uses it, with the address that the document itself says."""
    tools: dict[str, Tool] = imported(gateway.send("GET", "/openapi-tools.json").json)
    method, url, query, body, headers = request_of(tools[name], **given)
    return Reply(gateway.http.request(method, url, params=query, content=body, headers=headers))


def test_an_event_is_recorded(gateway: LiveGateway, service: Service) -> None:
    given = {"event_id": "e-1", "event_type": "EVENT_TYPE_ADD_TO_CART", "session_id": "s", "item_id": "i"}
    assert _use(gateway, "record_event", **given, quantity=2, value=3.5).json["status"] == "INGEST_STATUS_ACCEPTED"
    [event] = service.ingestor.events
    assert (event.event_type, event.quantity, event.value) == (EventType.ADD_TO_CART, 2, 3.5)


def test_the_least_that_a_model_may_say_is_enough(gateway: LiveGateway, service: Service) -> None:
    assert _use(gateway, "get_context", session_id="s").json["recentItemIds"] == ["a"]
    assert len(_use(gateway, "get_recommendations", session_id="s").json["results"]) == 3
    assert _use(gateway, "get_explanations", explanation_token="ready").json["explanations"]
    assert _use(gateway, "get_card", session_id="s").text.startswith("<section>")
    plain, card = service.recommender.queries
    assert (plain.page_size, plain.return_items, plain.explain) == (5, True, ExplainMode.REASONS)
    assert card.return_items


def test_all_that_a_model_may_say_is_understood(gateway: LiveGateway, service: Service) -> None:
    given = {"session_id": "s", "user_id": "u", "category": "c", "anchor_item_ids": "a", "exclude_purchased": True}
    for name, more in (("get_recommendations", {"explain": "EXPLAIN_MODE_LLM_ASYNC"}), ("get_card", {"title": "T"})):
        reply = _use(gateway, name, **given, page_size=7, **more)
        assert reply.status == 200, reply.text
        query = service.recommender.queries[-1]
        assert (query.user_id, query.category, query.page_size, query.exclude_purchased) == ("u", "c", 7, True)
        assert tuple(query.anchor_item_ids) == ("a",)


def test_what_is_wrong_is_told_in_words_that_a_model_can_follow(gateway: LiveGateway) -> None:
    reply = _use(gateway, "record_event", event_id="e", event_type="LOOKED", session_id="s", item_id="i")
    assert (reply.status, reply.fields()) == (400, ["event_type"])
    assert "EVENT_TYPE_VIEW" in reply.error["message"]


@pytest.mark.parametrize(
    "host", ["evil.example/x?", "a b", "a@b", "x" * 300, "[::1", "shop.example:http", "<script>", "a,b"]
)
def test_a_host_that_is_none_is_not_repeated(host: str, gateway: LiveGateway) -> None:
    told = gateway.send("GET", "/openapi-tools.json", host=host).json["servers"]
    assert told == [{"url": f"http://{gateway.address}"}]


def test_the_address_is_where_it_was_asked_for_or_what_is_set(
    gateway: LiveGateway, own_gateway: Callable[..., LiveGateway]
) -> None:
    for host in ("recserv-gateway:8080", "[::1]:8080", "shop.example"):
        told = gateway.send("GET", "/openapi-tools.json", host=host).json["servers"]
        assert told == [{"url": f"http://{host}"}]
    public = own_gateway(public_url=URL)
    assert public.send("GET", "/openapi-tools.json", host="evil.example").json["servers"] == [{"url": URL}]
    assert public.send("GET", "/openapi.json").json["servers"] == [{"url": URL}]


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "deploy/dify/recserv.yml").read_text()))


def test_the_example_for_dify_is_one_chain_from_start_to_answer(workflow: dict[str, Any]) -> None:
    assert (workflow["kind"], workflow["app"]["mode"]) == ("app", "advanced-chat")
    graph = workflow["workflow"]["graph"]
    kinds = {node["id"]: node["data"]["type"] for node in graph["nodes"]}
    follows = {edge["source"]: edge["target"] for edge in graph["edges"]}
    assert len(follows) == len(graph["edges"]) == len(kinds) - 1
    chain = ["start"]
    while chain[-1] in follows:
        chain.append(follows[chain[-1]])
    assert [kinds[one] for one in chain] == ["start", *["http-request"] * 3, "code", "answer"]
    for edge in graph["edges"]:
        assert (edge["data"]["sourceType"], edge["data"]["targetType"]) == (
            kinds[edge["source"]],
            kinds[edge["target"]],
        )


def test_the_example_for_dify_does_what_it_says(
    workflow: dict[str, Any], gateway: LiveGateway, service: Service
) -> None:
    [address] = workflow["workflow"]["environment_variables"]
    known: dict[str, str] = {f"env.{address['name']}": f"http://{gateway.address}", "start.session_id": "s-1"}

    def filled(text: str) -> str:
        return re.sub(r"\{\{#([a-z_.]+)#\}\}", lambda found: known[found[1]], text)

    answer = ""
    for node in workflow["workflow"]["graph"]["nodes"]:
        data = node["data"]
        if data["type"] == "http-request":
            pairs = [line.split(":", 1) for line in filled(data["params"]).splitlines()]
            reply = Reply(gateway.http.request(data["method"], filled(data["url"]), params=dict(pairs)))
            assert reply.status == 200, reply.text
            known[f"{node['id']}.body"] = reply.text
        elif data["type"] == "code":
            run: dict[str, Any] = {}
            exec(data["code"], run)
            given = {one["variable"]: known[".".join(one["value_selector"])] for one in data["variables"]}
            known |= {f"{node['id']}.{name}": value for name, value in run["main"](**given).items()}
        elif data["type"] == "answer":
            answer = filled(data["answer"])
    assert answer.startswith("3 events in this visit, 3 products picked by: popular.\n\n<section>")
    assert [key.session_id for _, key in service.recommender.keys] == ["s-1"]
    assert {query.session_id for query in service.recommender.queries} == {"s-1"}
