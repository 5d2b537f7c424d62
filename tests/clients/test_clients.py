"""Programs in four languages on code generated from protos/ alone: built as their README says, and run."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from recserv.client import RecommendationClient
from recserv.types import Event, EventType, IngestStatus, RecommendQuery, ShopperKey
from tests.clients.front import front_of
from tests.clients.programs import PROGRAMS, Built, Workshop
from tests.patience import HANG_GUARD_S

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess

pytestmark = pytest.mark.clients
DELAY_S = 0.3
EARLY_S = 0.005
"""Timers count in milliseconds and may round down."""
STEPS = ["health", "recommend", "ingest", "context", "stream", "context", "batch", "batch", "bad_request"]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("clients"))


@pytest.fixture(scope="module", params=PROGRAMS)
def built(request: pytest.FixtureRequest, workshop: Workshop) -> Built:
    began_s = time.monotonic()
    program = workshop.built(request.param)
    print(f"\n{request.param}: built in {time.monotonic() - began_s:.0f} s")
    return program


@pytest.fixture
def client(recserv_server: ServerProcess) -> Iterator[RecommendationClient]:
    with RecommendationClient(recserv_server.target, timeout_s=HANG_GUARD_S) as client:
        yield client


def _recommended(client: RecommendationClient, session_id: str, page_size: int) -> list[str]:
    answer = client.recommend(RecommendQuery(session_id=session_id, page_size=page_size))
    assert answer.degraded_reasons == ()
    return [result.item_id for result in answer.results]


def _refusal(field: str) -> dict[str, Any]:
    violations = [{"field": field, "reason": "OUT_OF_RANGE"}]
    return {"code": 3, "reason": "INVALID_INPUT", "violations": violations}


def _check(steps: list[dict[str, Any]], client: RecommendationClient, attempts: int) -> None:
    """Every step says what the server answers to us, and the server holds what the steps say."""
    popular = _recommended(client, uuid.uuid4().hex, 3)
    assert [step.pop("step") for step in steps] == STEPS
    health, recommended, ingested, viewed, stream, carted, good, bad, bad_request = steps
    assert health == {"status": "SERVING"}
    assert recommended == {"item_ids": popular, "degraded": False}
    session_id, event_id = ingested.pop("session_id"), ingested.pop("event_id")
    assert ingested == {"status": "INGEST_STATUS_ACCEPTED", "attempts": attempts}
    assert viewed == {"recent_item_ids": popular[:1], "cart_item_ids": [], "event_count": 1}
    statuses = [result["status"] for result in stream["results"]]
    assert statuses == ["INGEST_STATUS_ACCEPTED", "INGEST_STATUS_REJECTED"]
    held = client.context(ShopperKey(session_id=session_id))
    assert carted == {"recent_item_ids": popular[1::-1], "cart_item_ids": [popular[1]], "event_count": 2}
    assert held.recent_item_ids == tuple(popular[1::-1])
    assert (held.cart_item_ids, held.event_count) == ((popular[1],), 2)
    assert good == {"item_ids": _recommended(client, session_id, 2)}
    assert bad == _refusal("requests[1].page_size")
    assert bad_request == _refusal("page_size")
    # What the server remembers of the ids is the very events that were said to be sent.
    for sent_id, kind, item_id in (
        (event_id, EventType.VIEW, popular[0]),
        (stream["results"][0]["event_id"], EventType.ADD_TO_CART, popular[1]),
    ):
        same = Event(event_id=sent_id, event_type=kind, session_id=session_id, item_id=item_id)
        assert client.ingest(same).status is IngestStatus.DUPLICATE


def test_all_calls_of_the_program_are_right(
    built: Built, recserv_server: ServerProcess, client: RecommendationClient
) -> None:
    _check(built.run(recserv_server.target), client, attempts=1)


def test_an_event_that_was_turned_away_is_sent_again_after_the_servers_delay(
    built: Built, recserv_server: ServerProcess, client: RecommendationClient
) -> None:
    refusals = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]
    with front_of(recserv_server.target, refusals, DELAY_S) as front:
        steps = built.run(front.address)
        assert front.without_deadline == []
        assert [arrival.event for arrival in front.arrivals] == [front.arrivals[0].event] * 3
        assert front.arrivals[0].event.event_id == steps[2]["event_id"]
        waited_s = [later.at_s - earlier.at_s for earlier, later in pairwise(front.arrivals)]
        assert min(waited_s) >= DELAY_S - EARLY_S
    _check(steps, client, attempts=3)
