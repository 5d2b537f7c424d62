"""What an acknowledgement on the wire means: the sync that covers the event returned before its bytes were sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from recserv import v1 as pb
from tests.durability.servers import serve_arguments, started
from tests.patience import HANG_GUARD_S, PATIENT_SERVER
from tests.server.harness import Client, view
from tests.stores.tracing import TRACERS, Acknowledgement, acknowledgements, python

SINGLE_EVENTS = 15
GROUPS, GROUP_EVENTS = 6, 5
EVENTS = SINGLE_EVENTS + GROUPS * GROUP_EVENTS


def named(number: int) -> pb.Event:
    return view(f"<<e-{number}>>", session_id=f"s-{number % 3}")


def send_events(target: str) -> dict[str, str]:
    """Sends them one by one, then in groups over a stream. Event -> its consistency token, which only the
    acknowledgement holds.
    """
    client = Client(target)
    tokens = []
    for number in range(SINGLE_EVENTS):
        raw = client.unary("IngestEvent", pb.IngestEventRequest(event=named(number)), timeout=HANG_GUARD_S)
        tokens.append(pb.IngestEventResponse.FromString(raw).consistency_token)
    numbers = range(SINGLE_EVENTS, EVENTS)
    groups = [numbers[at : at + GROUP_EVENTS] for at in range(0, len(numbers), GROUP_EVENTS)]
    answers, failure = client.events(pb.StreamEventsRequest(events=map(named, group)) for group in groups)
    assert failure is None
    tokens += [result.consistency_token for answer in answers for result in answer.results]
    client.channel.close()
    assert all(tokens)
    return {f"e-{number}": token for number, token in enumerate(tokens)}


def traced(tracer: str, command: Sequence[str], directory: Path) -> list[Acknowledgement]:
    prepared = TRACERS[tracer].prepare(command, directory)
    with started(prepared.command, prepared.environment) as target:
        tokens = send_events(target)
    seen = acknowledgements(TRACERS[tracer].steps(directory), tokens)
    assert sorted(entry.event for entry in seen) == sorted(tokens)
    return seen


@pytest.mark.parametrize("tracer", sorted(TRACERS))
def test_an_event_is_synced_before_its_acknowledgement_is_sent(tracer: str, tiny_model: Path, tmp_path: Path) -> None:
    command = python("recserv", "serve", *serve_arguments(tiny_model, tmp_path / "state.db"), *PATIENT_SERVER)
    assert [entry.event for entry in traced(tracer, command, tmp_path) if not entry.true] == []


@pytest.mark.parametrize("tracer", sorted(TRACERS))
def test_the_same_check_fails_once_syncing_is_lowered(tracer: str, tiny_model: Path, tmp_path: Path) -> None:
    arguments = [*serve_arguments(tiny_model, tmp_path / "state.db"), *PATIENT_SERVER]
    command = python("tests.durability.lowered_server", "NORMAL", *arguments)
    false = [entry.event for entry in traced(tracer, command, tmp_path) if not entry.true]
    assert len(false) >= EVENTS - 2
