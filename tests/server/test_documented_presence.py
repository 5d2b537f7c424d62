"""What the contract says is always set in an answer is set, in answers of the whole application."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from recserv import v1 as pb
from tests.server.harness import view
from tests.server.live import LiveApp
from tests.stubs import PROTOS, descriptor_set

_MESSAGES, _FIELDS = 4, 2
"""Numbers of FileDescriptorProto.message_type and DescriptorProto.field: of them the paths of comments are made."""


@pytest.fixture(scope="module")
def always_set(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Full names of the fields whose comment begins so."""
    described = descriptor_set(PROTOS, tmp_path_factory.mktemp("contract") / "described.pb")
    found = set()
    for file in described.file:
        if file.package == "recserv.v1":
            found |= set(_said_to_be_set(file))
    return found


def _said_to_be_set(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    for place in file.source_code_info.location:
        if len(place.path) == 4 and (place.path[0], place.path[2]) == (_MESSAGES, _FIELDS):
            message = file.message_type[place.path[1]]
            if place.leading_comments.startswith(" Always set"):
                yield f"{file.package}.{message.name}.{message.field[place.path[3]].name}"


@pytest.fixture(scope="module")
def answers(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Message]]:
    """One of each kind, and of those that have several faces several."""
    live = LiveApp(tiny_model, tmp_path_factory.mktemp("presence") / "state.db")
    yield list(_answers(live))
    live.close()


def _answers(live: LiveApp) -> Iterator[Message]:
    bad = view("e-9", event_type=77)
    yield pb.IngestEventResponse.FromString(live.unary("IngestEvent", pb.IngestEventRequest(event=view())))
    yield pb.IngestEventResponse.FromString(live.unary("IngestEvent", pb.IngestEventRequest(event=view())))
    group = [view(), view("e-2", item_id="item-7"), bad]
    yield pb.BatchIngestEventsResponse.FromString(
        live.unary("BatchIngestEvents", pb.BatchIngestEventsRequest(events=group))
    )
    yield from live.events([pb.StreamEventsRequest(events=group)])[0]
    yield pb.GetContextResponse.FromString(live.unary("GetContext", pb.GetContextRequest(session_id="s-1")))
    texts = pb.RecommendRequest(session_id="s-1", explain=pb.EXPLAIN_MODE_LLM_ASYNC, return_items=True)
    asked = [
        pb.RecommendRequest(),
        pb.RecommendRequest(session_id="s-1", explain=pb.EXPLAIN_MODE_NONE),
        pb.RecommendRequest(candidate_item_ids=["item-3", "nobody's"], diversity=0.5),
        pb.RecommendRequest(session_id="s-1", category="nobody's"),
        texts,
    ]
    recommended = [pb.RecommendResponse.FromString(live.unary("Recommend", request)) for request in asked]
    yield from recommended
    batch = pb.BatchRecommendRequest(requests=[*asked, pb.RecommendRequest(page_size=-1)])
    yield pb.BatchRecommendResponse.FromString(live.unary("BatchRecommend", batch))
    token = recommended[-1].explanation_token
    yield pb.GetExplanationsResponse.FromString(
        live.unary("GetExplanations", pb.GetExplanationsRequest(explanation_token=token))
    )
    for raw in live.server_stream("WatchExplanations", pb.WatchExplanationsRequest(explanation_token=token)):
        yield pb.WatchExplanationsResponse.FromString(raw)
    with live.opened("WatchRecommendations", pb.WatchRecommendationsRequest(request=texts)) as watched:
        yield pb.WatchRecommendationsResponse.FromString(next(watched))


def _messages_in(message: Message) -> Iterator[Message]:
    """It and all of ours inside."""
    yield message
    for field, value in message.ListFields():
        kind = field.message_type
        if kind is not None and kind.file.package == "recserv.v1" and not kind.GetOptions().map_entry:
            for inner in value if field.is_repeated else [value]:
                yield from _messages_in(inner)


def _is_set(message: Message, field: FieldDescriptor) -> bool:
    return message.HasField(field.name) if field.has_presence else bool(getattr(message, field.name))


def all_of(answers: list[Message], kind: Any) -> list[Any]:
    return [one for answer in answers for one in _messages_in(answer) if isinstance(one, kind)]


def test_what_is_said_to_be_always_set_is_set(answers: list[Message], always_set: set[str]) -> None:
    looked_at: Counter[str] = Counter()
    for answer in answers:
        for message in _messages_in(answer):
            for field in message.DESCRIPTOR.fields:
                if field.full_name in always_set:
                    assert _is_set(message, field), (field.full_name, message)
                    looked_at[field.full_name] += 1
    assert always_set - set(looked_at) == set(), "no answer has them"


def test_what_is_said_to_be_set_only_then_is_not_set_otherwise(answers: list[Message]) -> None:
    for result in all_of(answers, pb.IngestResult):
        rejected = result.status == pb.INGEST_STATUS_REJECTED
        assert (result.HasField("error"), bool(result.consistency_token)) == (rejected, not rejected)
    for text in all_of(answers, pb.Explanation):
        assert bool(text.cause) == (text.state == pb.EXPLANATION_STATE_TEMPLATE)
    for answer in all_of(answers, pb.RecommendResponse):
        assert answer.degraded == bool(answer.degraded_reasons)
        assert not answer.next_page_token
        for result in answer.results:
            assert bool(result.explanation_state) == bool(answer.explanation_token)
    for item in all_of(answers, pb.Item):
        assert item.HasField("available")
    for entry in all_of(answers, pb.BatchRecommendEntry):
        assert entry.WhichOneof("outcome") is not None


def test_items_and_tokens_come_only_where_they_were_asked_for(answers: list[Message]) -> None:
    *plain, with_texts = [answer for answer in answers if isinstance(answer, pb.RecommendResponse)]
    assert with_texts.explanation_token
    assert all(result.HasField("item") for result in with_texts.results)
    for answer in plain:
        assert not answer.explanation_token
        assert not any(result.HasField("item") or result.explanation for result in answer.results)
