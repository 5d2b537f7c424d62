"""Two servers on one Redis: any of them serves a token, and the death of one costs nobody an answer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from recserv.client import RecommendationClient
from recserv.errors import NotFound
from recserv.types import Event, EventType, ExplainMode, ExplanationState, Recommendation, RecommendQuery
from tests.llm.servers import llm_server, provider_process
from tests.patience import HANG_GUARD_S, PATIENT_SERVER, eventually
from tests.redis_server import RedisServer

FINAL = {ExplanationState.READY, ExplanationState.TEMPLATE}
DEADLINE_S = 12.0
JOBS = 30


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def ask(client: RecommendationClient, item: int, timeout_s: float = 10.0) -> Recommendation:
    viewed = Event(event_type=EventType.VIEW, item_id=f"item-{item}")
    query = RecommendQuery(context_events=(viewed,), explain=ExplainMode.LLM_ASYNC, page_size=3)
    return client.recommend(query, timeout_s=timeout_s)


def knows(client: RecommendationClient, token: str) -> bool:
    try:
        return bool(client.explanations(token).explanations)
    except NotFound:
        return False


def test_a_token_is_served_by_the_other_server(
    tiny_model: Path, tmp_path: Path, redis_server: RedisServer, stack: ExitStack
) -> None:
    url = stack.enter_context(provider_process("--delay-ms", "200"))
    clients = []
    for name in ("one", "two"):
        server = stack.enter_context(
            llm_server(
                tiny_model,
                tmp_path / name,
                url,
                state=redis_server.url,
                attempt_timeout_s=HANG_GUARD_S,
                job_deadline_s=HANG_GUARD_S,
                flags=PATIENT_SERVER,
            )
        )
        clients.append(stack.enter_context(RecommendationClient(server.target, HANG_GUARD_S)))
    one, two = clients
    first = ask(one, 5, HANG_GUARD_S)
    # The first server tells of it when it gets to it.
    eventually(lambda: knows(two, first.explanation_token))
    watched = list(two.watch_explanations(first.explanation_token, 2 * HANG_GUARD_S))
    assert {explanation.item_id for explanation in watched} == {result.item_id for result in first.results}
    assert {explanation.state for explanation in watched} == {ExplanationState.READY}
    assert (
        one.explanations(first.explanation_token).explanations == two.explanations(first.explanation_token).explanations
    )
    # The other server had no part in it, and finds the texts all the same.
    second = ask(two, 5, HANG_GUARD_S)
    states = {explanation.state for explanation in two.watch_explanations(second.explanation_token, 2 * HANG_GUARD_S)}
    assert states == {ExplanationState.READY}


@pytest.mark.chaos
def test_tokens_of_a_killed_server_end_through_another_one(
    tiny_model: Path, tmp_path: Path, redis_server: RedisServer, stack: ExitStack
) -> None:
    """kill -9 with two jobs under way and the others queued: the second server finishes them in time."""
    url = stack.enter_context(provider_process("--delay-ms", "500"))
    more = "in_flight_max = 2"
    settings = {"state": redis_server.url, "job_deadline_s": DEADLINE_S}
    doomed = stack.enter_context(llm_server(tiny_model, tmp_path / "one", url, more=more, **settings))
    answers = []
    with RecommendationClient(doomed.target, 10.0) as client:
        for item in range(JOBS):
            answers.append(ask(client, item))
    asked_s = time.monotonic()
    other = stack.enter_context(llm_server(tiny_model, tmp_path / "two", url, **settings))
    os.kill(doomed.pid, signal.SIGKILL)
    states: list[ExplanationState] = []
    with RecommendationClient(other.target, 10.0) as client:
        for answer in answers:
            watched = list(client.watch_explanations(answer.explanation_token, DEADLINE_S + 10.0))
            assert [explanation.item_id for explanation in watched] != []
            assert len(watched) == len(answer.results)
            states += [explanation.state for explanation in watched]
    took_s = time.monotonic() - asked_s
    ready = states.count(ExplanationState.READY)
    print(f"\n{len(states)} explanations of {JOBS} tokens: {ready} ready, all final after {took_s:.1f} s")
    assert set(states) <= FINAL
    assert ready >= 0.8 * len(states), "the jobs were taken over, not given up"
    assert took_s < DEADLINE_S + 5.0
