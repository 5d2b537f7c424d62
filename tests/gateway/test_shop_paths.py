"""The paths as a plain web shop calls them."""

from __future__ import annotations

import pytest

from recserv.types import EventType, ExplainMode
from tests.gateway.support import LiveGateway
from tests.server.harness import Service

EVENT = {"eventId": "e-1", "eventType": "EVENT_TYPE_VIEW", "sessionId": "s-1", "itemId": "item-1"}


def test_an_event_is_the_body(gateway: LiveGateway, service: Service) -> None:
    reply = gateway.send("POST", "/api/v1/events", EVENT)
    assert reply.json == {"status": "INGEST_STATUS_ACCEPTED", "consistencyToken": "token-e-1"}
    [event] = service.ingestor.events
    assert (event.event_type, event.item_id) == (EventType.VIEW, "item-1")


@pytest.mark.parametrize("user_id", ["u-1", "a/b", "ü ?&#%2F"])
def test_the_context_of_a_user_whatever_the_id_is(user_id: str, gateway: LiveGateway, service: Service) -> None:
    from urllib.parse import quote

    reply = gateway.send("GET", f"/api/v1/context/{quote(user_id, safe='')}?session_id=s-1")
    assert reply.json["recentItemIds"] == ["a"]
    [(_, key)] = service.recommender.keys
    assert (key.user_id, key.session_id) == (user_id, "s-1")


def test_the_context_of_a_visit_alone(gateway: LiveGateway, service: Service) -> None:
    assert gateway.send("GET", "/api/v1/context?session_id=s-1").json["eventCount"] == "3"
    assert service.recommender.keys[0][1].user_id == ""
    assert gateway.send("GET", "/api/v1/context").error["status"] == "INVALID_ARGUMENT"


def test_fields_of_a_recommendation_are_parameters_and_lists_are_repeated(
    gateway: LiveGateway, service: Service
) -> None:
    query = "session_id=s&userId=u&page_size=5&anchor_item_ids=a&anchor_item_ids=b&diversity=0.5&exclude_purchased=true"
    assert gateway.send("GET", f"/api/v1/recommendations?{query}&explain=EXPLAIN_MODE_NONE").status == 200
    [seen] = service.recommender.queries
    assert (seen.session_id, seen.user_id, seen.page_size) == ("s", "u", 5)
    assert (tuple(seen.anchor_item_ids), seen.diversity, seen.exclude_purchased) == (("a", "b"), 0.5, True)
    assert seen.explain is ExplainMode.NONE


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("bogus=1", "bogus"),
        ("context_events=x", "context_events"),
        ("user_attributes=x", "user_attributes"),
        ("page_size=ten", "page_size"),
        ("page_size=101", "page_size"),
        ("page_size=1&pageSize=2", "pageSize"),
        ("explain=LOUD", "explain"),
        ("return_items=yes", "return_items"),
        ("diversity=nan", "diversity"),
        ("anchor_item_ids=", "anchor_item_ids[0]"),
    ],
)
def test_a_bad_parameter_is_named(query: str, field: str, gateway: LiveGateway, service: Service) -> None:
    reply = gateway.send("GET", f"/api/v1/recommendations?{query}")
    assert (reply.status, reply.fields()) == (400, [field])
    assert service.recommender.queries == []


def test_health_is_the_targets(gateway: LiveGateway) -> None:
    assert gateway.send("GET", "/healthz").json == {"status": "SERVING"}
