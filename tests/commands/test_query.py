"""`recserv query` against a stand-in for the server: what is asked, what is printed, which exit code."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from recserv import v1 as pb
from recserv.commands import query
from tests.patience import HANG_GUARD_S


class StandIn(pb.RecommendationServiceServicer):
    """Answers every Recommend with `answer`, or refuses it with `refusal`; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[pb.RecommendRequest] = []
        self.answer = pb.RecommendResponse(model_version="m-1")
        self.refusal: status_pb2.Status | None = None
        self.target = ""

    def Recommend(self, request: pb.RecommendRequest, context: grpc.ServicerContext) -> pb.RecommendResponse:
        self.asked.append(request)
        if self.refusal is not None:
            context.abort_with_status(rpc_status.to_status(self.refusal))
        return self.answer


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    servicer = StandIn()
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    pb.add_RecommendationServiceServicer_to_server(servicer, server)
    servicer.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(None).wait()


def _run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    query.register(parser.add_subparsers())
    args = parser.parse_args(["query", f"--timeout={HANG_GUARD_S}", *arguments])
    code: int = args.run(args)
    return code


def test_the_events_are_sent_in_the_order_of_the_command_line(stand_in: StandIn) -> None:
    code = _run(
        *["--target", stand_in.target, "--session", "s", "--user", "u", "--view", "a", "b", "--search", "red mug"],
        *["--cart", "c", "--view", "d", "--anchor", "x", "--category", "mugs", "--count", "7"],
    )
    assert code == 0
    asked = stand_in.asked[0]
    sent = [
        (pb.EventType.Name(event.event_type), event.item_id or event.search_query) for event in asked.context_events
    ]
    assert sent == [
        ("EVENT_TYPE_VIEW", "a"),
        ("EVENT_TYPE_VIEW", "b"),
        ("EVENT_TYPE_SEARCH", "red mug"),
        ("EVENT_TYPE_ADD_TO_CART", "c"),
        ("EVENT_TYPE_VIEW", "d"),
    ]
    assert (asked.session_id, asked.user_id, asked.category, asked.page_size) == ("s", "u", "mugs", 7)
    assert list(asked.anchor_item_ids) == ["x"]
    assert asked.return_items
    assert not asked.HasField("exclude_purchased")


def test_the_answer_is_a_table_with_titles_sources_and_reasons(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    stand_in.answer = pb.RecommendResponse(
        model_version="m-1",
        degraded=True,
        degraded_reasons=["DEGRADED_REASON_INDEX_UNAVAILABLE"],
        missing_item_ids=["gone"],
        missing_categories=["no such shelf"],
        results=[
            pb.RecommendResult(
                item_id="i-1",
                rank=1,
                score=0.75,
                source="SOURCE_COVISITATION",
                item=pb.Item(item_id="i-1", title="Mug [red]"),
                reasons=[pb.Reason(type="REASON_TYPE_OFTEN_BOUGHT_WITH", text="often bought with Tea in your cart")],
            ),
            pb.RecommendResult(item_id="i-2", rank=2, score=0.5, source="SOURCE_POPULAR"),
        ],
    )
    assert _run("--target", stand_in.target, "--session", "s") == 0
    out = capsys.readouterr().out
    for words in [
        "m-1",
        "index unavailable",
        "gone, no such shelf",
        "Mug [red]",
        "i-1",
        "0.750",
        "co-visitation",
        "often bought with",
    ]:
        assert words in out
    assert out.count("i-2") == 2, "a product without a title goes by its id"


def test_a_refusal_is_shown_with_its_fields_and_exits_with_1(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    detail = any_pb2.Any()
    detail.Pack(
        error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field="session_id", description="holds a NUL")
            ]
        )
    )
    stand_in.refusal = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="1 bad field", details=[detail])
    assert _run("--target", stand_in.target, "--session", "s") == 1
    err = capsys.readouterr().err
    assert "INVALID_ARGUMENT" in err
    assert "session_id: holds a NUL" in err


def test_a_server_that_is_not_there_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--target", "127.0.0.1:1", "--session", "s") == 1
    assert "UNAVAILABLE" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [["--count", "0"], ["--count", "101"], ["--count", "x"], ["--timeout", "nan"], ["--view"], ["--frob"]]
)
def test_wrong_usage_exits_with_2(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _run("--target", "127.0.0.1:1", *wrong)
    assert ended.value.code == 2
