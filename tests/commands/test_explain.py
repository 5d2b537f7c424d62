"""`recserv explain` against a stand-in for the server: the table, the lines, the causes, the exit codes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from recserv import v1 as pb
from recserv.commands import explain
from tests.patience import HANG_GUARD_S


class StandIn(pb.RecommendationServiceServicer):
    def __init__(self) -> None:
        self.asked: list[pb.RecommendRequest] = []
        self.results = [
            pb.RecommendResult(
                item_id=f"i-{n}",
                rank=n,
                item=pb.Item(item_id=f"i-{n}", title=f"Mug {n}"),
                explanation="Goes with tea",
                explanation_state="EXPLANATION_STATE_PENDING" if n else "EXPLANATION_STATE_READY",
            )
            for n in (1, 2)
        ]
        self.news = [
            pb.Explanation(item_id="i-2", text="For [your] tea", state="EXPLANATION_STATE_READY"),
            pb.Explanation(
                item_id="i-1",
                text="Goes with tea",
                state="EXPLANATION_STATE_TEMPLATE",
                cause="TEMPLATE_CAUSE_BUDGET_SPENT",
            ),
        ]

    def Recommend(self, request: pb.RecommendRequest, context: grpc.ServicerContext) -> pb.RecommendResponse:
        self.asked.append(request)
        return pb.RecommendResponse(model_version="m-1", results=self.results, explanation_token="token-1")

    def WatchExplanations(self, request: Any, context: grpc.ServicerContext) -> Iterator[pb.WatchExplanationsResponse]:
        assert request.explanation_token == "token-1"
        for explanation in self.news:
            yield pb.WatchExplanationsResponse(explanation=explanation)


@pytest.fixture
def stand_in() -> Iterator[tuple[StandIn, str]]:
    servicer = StandIn()
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    pb.add_RecommendationServiceServicer_to_server(servicer, server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer, target
    server.stop(None).wait()


def _run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    explain.register(parser.add_subparsers())
    args = parser.parse_args(["explain", f"--timeout={HANG_GUARD_S}", *arguments])
    code: int = args.run(args)
    return code


def test_texts_are_lines_in_the_order_in_which_they_land(
    stand_in: tuple[StandIn, str], capsys: pytest.CaptureFixture[str]
) -> None:
    servicer, target = stand_in
    assert _run("--target", target, "--session", "s", "--view", "a") == 0
    assert servicer.asked[0].explain == pb.EXPLAIN_MODE_LLM_ASYNC
    _, first, second, summary = capsys.readouterr().out.splitlines()
    assert "Mug 2" in first
    assert "For [your] tea" in first
    assert "template" in second
    assert summary.startswith("1 of 2 written by the model")
    assert summary.endswith("templates because: budget spent")


def test_on_a_terminal_it_is_one_table(
    stand_in: tuple[StandIn, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    _, target = stand_in
    assert _run("--target", target, "--session", "s") == 0
    out = capsys.readouterr().out
    for words in ("why", "ready", "template", "For [your] tea"):
        assert words in out


def test_explain_of_an_empty_answer_exits_with_0(
    stand_in: tuple[StandIn, str], capsys: pytest.CaptureFixture[str]
) -> None:
    servicer, target = stand_in
    servicer.results = []
    assert _run("--target", target, "--session", "s") == 0
    assert "0 products" in capsys.readouterr().out


def test_a_server_that_is_not_there_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--target", "127.0.0.1:1", "--session", "s") == 1
    assert "UNAVAILABLE" in capsys.readouterr().err
