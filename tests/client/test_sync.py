from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import pytest

from recserv import v1 as pb
from recserv.client import CallFailed, Ingested, RecommendationClient, recommend_request
from recserv.errors import EventConflict, InvalidInput
from recserv.types import (
    Event,
    EventType,
    ExplainMode,
    IngestStatus,
    Priority,
    Recommendation,
    RecommendQuery,
    ShopperKey,
    Source,
)
from tests.patience import HANG_GUARD_S

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess


@pytest.fixture
def client(recserv_server: ServerProcess) -> Iterator[RecommendationClient]:
    with RecommendationClient(recserv_server.target, timeout_s=HANG_GUARD_S) as connected:
        yield connected


def test_an_event_ingested_is_in_the_context_and_answers_the_next_recommend(client: RecommendationClient) -> None:
    session = uuid.uuid4().hex
    cold = client.recommend(RecommendQuery(session_id=session, return_items=True))
    assert {result.source for result in cold.results} <= {Source.POPULAR, Source.TRENDING}
    item = cold.results[0].item
    assert item is not None
    event = Event(event_id="1", event_type=EventType.VIEW, session_id=session, item_id=item.item_id)
    assert client.ingest(event).status is IngestStatus.ACCEPTED
    assert client.ingest(event).status is IngestStatus.DUPLICATE
    assert client.context(ShopperKey(session_id=session)).recent_item_ids == (item.item_id,)
    warm = client.recommend(RecommendQuery(session_id=session))
    assert any(item.item_id in reason.because_item_ids for result in warm.results for reason in result.reasons)


def test_a_refusal_carries_the_code_and_every_field(client: RecommendationClient) -> None:
    with pytest.raises(CallFailed) as failed:
        client.recommend(RecommendQuery(session_id="a\0b", page_size=101))
    assert failed.value.code == "INVALID_ARGUMENT"
    assert {violation.field for violation in failed.value.violations} == {"session_id", "page_size"}


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with RecommendationClient("127.0.0.1:1", timeout_s=HANG_GUARD_S) as nobody, pytest.raises(CallFailed) as failed:
        nobody.recommend(RecommendQuery())
    assert failed.value.code == "UNAVAILABLE"


def test_every_field_of_a_query_reaches_the_wire() -> None:
    event = Event(
        event_type=EventType.RATE, item_id="i", value=4.5, event_time_ms=1_700_000_000_123, properties={"a": "b"}
    )
    request = recommend_request(
        RecommendQuery(
            session_id="s",
            user_id="u",
            placement="home",
            priority=Priority.HIGH,
            context_events=(event,),
            anchor_item_ids=("a",),
            candidate_item_ids=("c",),
            category="shoes",
            page_size=3,
            exclude_item_ids=("x",),
            exclude_purchased=False,
            diversity=0.0,
            explain=ExplainMode.NONE,
            consistency_token="t",
            return_items=True,
            locale="en",
            device_type="phone",
            user_attributes={"k": "v"},
            request_id="r",
        )
    )
    unset = {field.name for field in pb.RecommendRequest.DESCRIPTOR.fields} - {
        field.name for field, _ in request.ListFields()
    }
    assert unset == {"filter", "page_token"}
    assert request.HasField("exclude_purchased")
    assert request.HasField("diversity")
    sent = request.context_events[0]
    assert sent.event_time.ToMilliseconds() == 1_700_000_000_123
    assert (sent.event_type, sent.item_id, sent.value, dict(sent.properties)) == (
        pb.EVENT_TYPE_RATE,
        "i",
        4.5,
        {"a": "b"},
    )


def test_a_batch_of_queries_answers_each_for_itself(client: RecommendationClient) -> None:
    good, bad = client.recommend_batch([RecommendQuery(session_id="s"), RecommendQuery(session_id="s", page_size=101)])
    assert isinstance(good, Recommendation)
    assert good.results
    assert isinstance(bad, InvalidInput)
    assert [violation.field for violation in bad.violations] == ["requests[1].page_size"]


def test_a_batch_of_events_tells_of_each_what_became_of_it(client: RecommendationClient) -> None:
    session = uuid.uuid4().hex
    event = Event(event_id="1", event_type=EventType.VIEW, session_id=session, item_id="item-1")
    other_body = msgspec.structs.replace(event, item_id="item-2")
    first, again, conflict, bad = client.ingest_batch([event, event, other_body, Event(event_id="2")])
    assert isinstance(first, Ingested)
    assert isinstance(again, Ingested)
    assert (first.status, again.status) == (IngestStatus.ACCEPTED, IngestStatus.DUPLICATE)
    assert isinstance(conflict, EventConflict)
    assert isinstance(bad, InvalidInput)


def test_an_acknowledgements_token_makes_the_next_answer_wait_for_it(client: RecommendationClient) -> None:
    session = uuid.uuid4().hex
    event = Event(event_id="1", event_type=EventType.VIEW, session_id=session, item_id="item-1")
    token = client.ingest(event).consistency_token
    answer = client.recommend(RecommendQuery(session_id=session, consistency_token=token))
    assert answer.degraded_reasons == ()
    assert any("item-1" in reason.because_item_ids for result in answer.results for reason in result.reasons)
