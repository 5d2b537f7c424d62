"""Events per second of unary calls and of a stream of groups, both durable, in turns on the same server."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from recserv import v1 as pb
from tests.server.harness import Client, view

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess

pytestmark = pytest.mark.benchmark

TURNS = 5
UNARY_EVENTS = 500
GROUPS, GROUP_EVENTS = 50, 100
CALLERS = 16
ACCEPTED = pb.INGEST_STATUS_ACCEPTED


def events_of(name: str, count: int) -> list[pb.Event]:
    return [view(f"{name}-{n}", session_id=f"s-{n % 50}", item_id=f"item-{n % 150}") for n in range(count)]


def unary(client: Client, name: str) -> int:
    """One caller, one event a call."""
    for event in events_of(name, UNARY_EVENTS):
        raw = client.unary("IngestEvent", pb.IngestEventRequest(event=event))
        assert pb.IngestEventResponse.FromString(raw).status == ACCEPTED
    return UNARY_EVENTS


def unary_at_once(client: Client, name: str) -> int:
    """As many calls under way as make the server write them in groups, too."""
    ingest = client.channel.unary_unary("/recserv.v1.RecommendationService/IngestEvent")
    waiting = []
    for event in events_of(name, UNARY_EVENTS):
        if len(waiting) == CALLERS:
            waiting.pop(0).result()
        waiting.append(ingest.future(pb.IngestEventRequest(event=event).SerializeToString(), timeout=10))
    for call in waiting:
        assert pb.IngestEventResponse.FromString(call.result()).status == ACCEPTED
    return UNARY_EVENTS


def streamed(client: Client, name: str) -> int:
    events = events_of(name, GROUPS * GROUP_EVENTS)
    answers, failure = client.events(
        pb.StreamEventsRequest(events=events[at : at + GROUP_EVENTS]) for at in range(0, len(events), GROUP_EVENTS)
    )
    assert failure is None
    results = [result for answer in answers for result in answer.results]
    assert [result for result in results if result.status != ACCEPTED] == []
    assert len(results) == len(events)
    return len(events)


def per_second(run: Callable[[Client, str], int], client: Client, turn: int) -> float:
    started_s = time.perf_counter()
    return run(client, f"{run.__name__}-{turn}") / (time.perf_counter() - started_s)


def test_a_stream_of_groups_stores_at_least_five_times_the_events_of_unary_calls(recserv_server: ServerProcess) -> None:
    client = Client(recserv_server.target)
    rates = {run: [per_second(run, client, n) for n in range(TURNS)] for run in (unary, unary_at_once, streamed)}
    client.channel.close()
    one, at_once, groups = (statistics.median(rates[run]) for run in (unary, unary_at_once, streamed))
    print(
        f"\nevents/s: {one:.0f} by one caller, {at_once:.0f} by {CALLERS} calls at once, {groups:.0f} in groups of"
        f" {GROUP_EVENTS}: x{groups / one:.1f} and x{groups / at_once:.1f}"
    )
    assert groups >= 5 * one
