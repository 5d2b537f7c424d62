"""The real pipeline, model and store behind the real server: what the contract promises a caller."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2

from recserv import v1 as pb
from tests.model.support import reseal
from tests.server.harness import Failure
from tests.server.live import LiveApp

POPULAR = {pb.SOURCE_POPULAR, pb.SOURCE_TRENDING, pb.SOURCE_POPULAR_IN_CATEGORY}


@pytest.fixture
def start(tiny_model: Path, tmp_path: Path) -> Iterator[Callable[..., LiveApp]]:
    started: list[LiveApp] = []

    def begin(model: Path = tiny_model, **settings: Any) -> LiveApp:
        started.append(LiveApp(model, tmp_path / "state.db", **settings))
        return started[-1]

    yield begin
    for app in started:
        app.close()


@pytest.fixture(scope="module")
def live(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveApp]:
    app = LiveApp(tiny_model, tmp_path_factory.mktemp("live") / "state.db")
    yield app
    app.close()


def recommend(app: LiveApp, **fields: Any) -> pb.RecommendResponse:
    return pb.RecommendResponse.FromString(app.unary("Recommend", pb.RecommendRequest(**fields)))


def event(event_id: str, session_id: str, item_id: str = "", kind: int = pb.EVENT_TYPE_VIEW, **fields: Any) -> pb.Event:
    return pb.Event(event_id=event_id, session_id=session_id, item_id=item_id, event_type=kind, **fields)


def ingest(app: LiveApp, sent: pb.Event) -> pb.IngestEventResponse:
    return pb.IngestEventResponse.FromString(app.unary("IngestEvent", pb.IngestEventRequest(event=sent)))


def refused(app: LiveApp, sent: pb.Event) -> Failure:
    with pytest.raises(Failure) as caught:
        ingest(app, sent)
    return caught.value


def test_a_stranger_gets_popular_items_and_is_told_so(live: LiveApp) -> None:
    response = recommend(live, session_id="stranger")
    assert len(response.results) == 10
    assert {result.source for result in response.results} <= POPULAR
    assert not response.degraded


@pytest.mark.parametrize("fields", [{}, {"user_id": "nobody"}, {"session_id": "nobody's", "user_id": "nobody"}])
def test_a_request_about_nobody_known_is_a_cold_start(live: LiveApp, fields: dict[str, str]) -> None:
    response = recommend(live, **fields)
    assert len(response.results) == 10
    assert {result.source for result in response.results} <= POPULAR
    assert not response.degraded


def test_the_context_of_nobody_known_is_empty(live: LiveApp) -> None:
    raw = live.unary("GetContext", pb.GetContextRequest(session_id="never", user_id="seen"))
    assert pb.GetContextResponse.FromString(raw) == pb.GetContextResponse()


def test_exclusions_may_repeat_themselves_and_name_what_does_not_exist(live: LiveApp) -> None:
    first = recommend(live).results[0].item_id
    response = recommend(live, exclude_item_ids=[first] * 999 + ["nowhere"])
    assert len(response.results) == 10
    assert first not in {result.item_id for result in response.results}
    assert not response.degraded


def test_a_page_larger_than_what_lives_is_shorter(live: LiveApp) -> None:
    response = recommend(live, candidate_item_ids=["item-1", "item-2"], page_size=100)
    assert len(response.results) == 2


def test_an_acknowledged_event_changes_the_very_next_answer(live: LiveApp) -> None:
    before = recommend(live, session_id="reader")
    acknowledged = ingest(live, event("e-1", "reader", "item-11"))
    assert acknowledged.status == pb.INGEST_STATUS_ACCEPTED
    after = recommend(live, session_id="reader", consistency_token=acknowledged.consistency_token)
    assert [result.item_id for result in after.results] != [result.item_id for result in before.results]
    assert not after.degraded
    because = {item for result in after.results for reason in result.reasons for item in reason.because_item_ids}
    assert because == {"item-11"}


def test_an_answer_with_a_context_searches_the_index(live: LiveApp) -> None:
    before = live.sample("recserv_index_searches_total")
    recommend(live, context_events=[{"event_type": pb.EVENT_TYPE_VIEW, "item_id": "item-3"}])
    assert live.sample("recserv_index_searches_total") == before + 1


def test_a_purchased_item_is_left_out_when_asked_for(live: LiveApp) -> None:
    ingest(live, event("v", "buyer", "item-21"))
    bought = recommend(live, session_id="buyer").results[0].item_id
    ingest(live, event("p", "buyer", bought, pb.EVENT_TYPE_PURCHASE, quantity=1, value=9.5))
    response = recommend(live, session_id="buyer", exclude_purchased=True, page_size=100)
    assert bought not in {result.item_id for result in response.results}


def test_the_same_event_twice_is_a_duplicate_and_another_body_a_conflict(live: LiveApp) -> None:
    first = ingest(live, event("d-1", "twice", "item-1", properties={"a": "1", "b": "2"}))
    again = ingest(live, event("d-1", "twice", "item-1", properties={"b": "2", "a": "1"}))
    assert (first.status, again.status) == (pb.INGEST_STATUS_ACCEPTED, pb.INGEST_STATUS_DUPLICATE)
    assert refused(live, event("d-1", "twice", "item-2")).code == grpc.StatusCode.ALREADY_EXISTS


def test_an_event_older_than_the_ids_is_out_of_range(live: LiveApp) -> None:
    failure = refused(live, event("old", "s", "item-1", event_time={"seconds": 1_000_000_000}))
    assert failure.code == grpc.StatusCode.OUT_OF_RANGE


def test_items_that_the_model_does_not_know_are_accepted_and_counted_and_named_when_asked_about(live: LiveApp) -> None:
    before = live.sample("recserv_unknown_items_total")
    assert ingest(live, event("u", "lagging", "not-yet")).status == pb.INGEST_STATUS_ACCEPTED
    assert live.sample("recserv_unknown_items_total") == before + 1
    response = recommend(live, context_events=[{"event_type": pb.EVENT_TYPE_VIEW, "item_id": "nowhere"}])
    assert list(response.missing_item_ids) == ["nowhere"]
    response = recommend(live, category="no such shelf")
    assert (len(response.results), list(response.missing_categories)) == (0, ["no such shelf"])
    assert not response.degraded


def test_a_consistency_token_of_nobody_is_an_invalid_argument(live: LiveApp) -> None:
    with pytest.raises(Failure) as caught:
        recommend(live, session_id="s", consistency_token="made up")
    assert (caught.value.code, caught.value.fields()) == (grpc.StatusCode.INVALID_ARGUMENT, ["consistency_token"])


def test_the_context_holds_what_was_done(live: LiveApp) -> None:
    ingest(live, event("1", "context", "item-1"))
    ingest(live, event("2", "context", kind=pb.EVENT_TYPE_SEARCH, search_query="lamp"))
    ingest(live, event("3", "context", "item-2", pb.EVENT_TYPE_ADD_TO_CART))
    raw = live.unary("GetContext", pb.GetContextRequest(session_id="context"))
    context = pb.GetContextResponse.FromString(raw)
    assert set(context.recent_item_ids) == {"item-1", "item-2"}
    assert (list(context.recent_searches), list(context.cart_item_ids)) == (["lamp"], ["item-2"])
    assert context.event_count == 3


def test_explanations_can_be_fetched_and_watched_under_the_token(live: LiveApp) -> None:
    response = recommend(live, anchor_item_ids=["item-4"], explain=pb.EXPLAIN_MODE_LLM_ASYNC, page_size=3)
    token = response.explanation_token
    assert token
    raw = live.unary("GetExplanations", pb.GetExplanationsRequest(explanation_token=token))
    fetched = pb.GetExplanationsResponse.FromString(raw).explanations
    assert [explanation.item_id for explanation in fetched] == [result.item_id for result in response.results]
    watched = live.server_stream("WatchExplanations", pb.WatchExplanationsRequest(explanation_token=token))
    assert [pb.WatchExplanationsResponse.FromString(raw).explanation for raw in watched] == list(fetched)


def test_a_stream_of_groups_is_stored_once_and_its_retry_is_all_duplicates(live: LiveApp) -> None:
    groups = [
        pb.StreamEventsRequest(events=[event(f"{n}-{m}", f"stream-{m}", f"item-{m}") for m in range(20)])
        for n in range(10)
    ]
    for status in (pb.INGEST_STATUS_ACCEPTED, pb.INGEST_STATUS_DUPLICATE):
        answers, failure = live.events(groups)
        assert failure is None
        assert {result.status for answer in answers for result in answer.results} == {status}
    raw = live.unary("GetContext", pb.GetContextRequest(session_id="stream-7"))
    assert pb.GetContextResponse.FromString(raw).event_count == 10


def test_good_events_of_a_batch_are_in(live: LiveApp) -> None:
    batch = [event("g", "batch", "item-1"), event("", "batch", "item-1"), event("g", "batch", "item-2")]
    raw = live.unary("BatchIngestEvents", pb.BatchIngestEventsRequest(events=batch))
    codes = [result.error.code for result in pb.BatchIngestEventsResponse.FromString(raw).results]
    assert codes == [0, code_pb2.INVALID_ARGUMENT, code_pb2.ALREADY_EXISTS]


def test_commits_are_measured(live: LiveApp) -> None:
    registry = live.app.metrics.registry
    before = registry.get_sample_value("recserv_commit_events_sum") or 0.0
    ingest(live, event("c", "commits", "item-1"))
    assert registry.get_sample_value("recserv_commit_events_sum") == before + 1
    assert registry.get_sample_value("recserv_model_info", {"version": recommend(live).model_version}) == 1


def test_what_was_acknowledged_is_there_after_a_restart(start: Callable[..., LiveApp]) -> None:
    first = start()
    ingest(first, event("e", "patient", "item-5", pb.EVENT_TYPE_ADD_TO_CART))
    first.close()
    second = start()
    raw = second.unary("GetContext", pb.GetContextRequest(session_id="patient"))
    assert list(pb.GetContextResponse.FromString(raw).cart_item_ids) == ["item-5"]
    assert ingest(second, event("e", "patient", "item-5", pb.EVENT_TYPE_ADD_TO_CART)).status == (
        pb.INGEST_STATUS_DUPLICATE
    )


def test_without_an_index_the_other_sources_answer_and_say_so(
    start: Callable[..., LiveApp], tiny_model: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (model / "index.hnsw").unlink()
    response = recommend(start(model), anchor_item_ids=["item-6"])
    assert len(response.results) == 10
    assert list(response.degraded_reasons) == [pb.DEGRADED_REASON_INDEX_UNAVAILABLE]


@pytest.mark.parametrize("content", [b"", b"no index", b"\xff" * 5000], ids=["empty", "short", "garbage"])
def test_an_index_that_is_what_the_manifest_says_and_still_none_is_served_around(
    start: Callable[..., LiveApp], tiny_model: Path, tmp_path: Path, content: bytes
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (model / "index.hnsw").write_bytes(content)
    reseal(model)
    response = recommend(start(model), anchor_item_ids=["item-6"])
    assert len(response.results) == 10
    assert list(response.degraded_reasons) == [pb.DEGRADED_REASON_INDEX_UNAVAILABLE]


def test_a_model_reduced_to_its_popular_items_still_answers(
    start: Callable[..., LiveApp], tiny_model: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (model / "embeddings.npy").write_bytes(b"")
    response = recommend(start(model, on_bad_model="popular"), session_id="s", anchor_item_ids=["item-6"])
    assert len(response.results) == 10
    assert {result.source for result in response.results} <= POPULAR
    assert response.degraded


def test_the_servers_setting_decides_about_purchases_where_the_request_does_not(start: Callable[..., LiveApp]) -> None:
    app = start(exclude_purchased=True)
    ingest(app, event("p", "s", "item-9", pb.EVENT_TYPE_PURCHASE))
    shown = {True: set[str](), False: set[str]()}
    for flag in shown:
        fields = {} if flag else {"exclude_purchased": False}
        response = recommend(app, session_id="s", candidate_item_ids=["item-9", "item-8"], **fields)
        shown[flag] = {result.item_id for result in response.results}
    assert shown == {True: {"item-8"}, False: {"item-8", "item-9"}}
