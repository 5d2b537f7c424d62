"""kill -9 of the server in the middle of a stream of events, again and again: what was acknowledged is there, once."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from recserv import v1 as pb
from recserv.app.server_process import ServerProcess
from tests.durability.state_file import read_state_file
from tests.patience import HANG_GUARD_S, PATIENT_SERVER
from tests.server.harness import Client, view

EVENTS = 5_000
GROUP_EVENTS = 100
AHEAD_GROUPS = 4
SESSIONS = 10
KINDS = (pb.EVENT_TYPE_VIEW, pb.EVENT_TYPE_ADD_TO_CART, pb.EVENT_TYPE_PURCHASE, pb.EVENT_TYPE_IMPRESSION)
ACCEPTED, DUPLICATE = pb.INGEST_STATUS_ACCEPTED, pb.INGEST_STATUS_DUPLICATE

Key = tuple[str, str]
"""Session and event id."""


class Round:
    """5,000 events of one name. `tokens`: those acknowledged so far."""

    def __init__(self, name: str):
        self.sessions = [f"{name}-{number}" for number in range(SESSIONS)]
        self.events = [
            view(
                f"e-{number}",
                session_id=self.sessions[number % SESSIONS],
                item_id=f"item-{number % 150}",
                event_type=KINDS[number % len(KINDS)],
            )
            for number in range(EVENTS)
        ]
        self.tokens: dict[Key, str] = {}

    def keys(self) -> set[Key]:
        return {(event.session_id, event.event_id) for event in self.events}

    def groups(self) -> Iterator[pb.StreamEventsRequest]:
        for at in range(0, EVENTS, GROUP_EVENTS):
            yield pb.StreamEventsRequest(events=self.events[at : at + GROUP_EVENTS])


class Ahead:
    """Passes groups on while there is room, until it is closed."""

    def __init__(self, groups: Iterator[pb.StreamEventsRequest], places: int):
        self._groups, self._room, self._closed = groups, threading.Semaphore(places), threading.Event()

    def __iter__(self) -> Iterator[pb.StreamEventsRequest]:
        for group in self._groups:
            self._room.acquire()
            if self._closed.is_set():
                return
            yield group

    def answered(self) -> None:
        self._room.release()

    def close(self) -> None:
        self._closed.set()
        self._room.release()


def send_until_killed(server: ServerProcess, events: Round, after_groups: int, delay_s: float) -> None:
    """Kills the server so long after so many groups were acknowledged; notes every acknowledgement that arrives."""
    client = Client(server.target)
    # The client is a few groups ahead. The last ones stay here, so the stream cannot end before the kill.
    assert after_groups + AHEAD_GROUPS <= EVENTS // GROUP_EVENTS
    ahead = Ahead(events.groups(), AHEAD_GROUPS)

    def send() -> None:
        for number, raw in enumerate(client.open_events(ahead, timeout=HANG_GUARD_S)):
            sent = events.events[number * GROUP_EVENTS :]
            for event, result in zip(sent, pb.StreamEventsResponse.FromString(raw).results, strict=False):
                assert (result.event_id, result.status) == (event.event_id, ACCEPTED), result
                events.tokens[event.session_id, event.event_id] = result.consistency_token
            if number + 1 == after_groups:
                time.sleep(delay_s)
                os.kill(server.pid, signal.SIGKILL)
            ahead.answered()

    try:
        with pytest.raises(grpc.RpcError) as caught:
            send()
    finally:
        ahead.close()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    client.channel.close()
    assert server.wait() == -signal.SIGKILL


def check_and_complete(server: ServerProcess, state: Path, events: Round) -> int:
    """After the restart. Returns how many of the unacknowledged events had been stored all the same."""
    before = read_state_file(state)
    before.check()
    stored = events.keys() & set(before.times)
    assert events.tokens.keys() <= stored
    client = Client(server.target)
    answers, failure = client.events(events.groups())
    assert failure is None
    results = [result for answer in answers for result in answer.results]
    for event, result in zip(events.events, results, strict=True):
        key = (event.session_id, event.event_id)
        assert result.status == (DUPLICATE if key in stored else ACCEPTED), (key, result)
        assert events.tokens.get(key, result.consistency_token) == result.consistency_token
    contexts = [client.unary("GetContext", pb.GetContextRequest(session_id=name)) for name in events.sessions]
    counts = [pb.GetContextResponse.FromString(raw).event_count for raw in contexts]
    assert counts == [EVENTS // SESSIONS] * SESSIONS
    client.channel.close()
    after = read_state_file(state)
    after.check()
    assert events.keys() <= set(after.times)
    assert after.times.total() == before.times.total() + EVENTS - len(stored)
    return len(stored) - len(events.tokens)


def kill_again_and_again(model: Path, state: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    killed: list[Round] = []
    stored_besides = 0
    for number in range(kills + 1):
        with ServerProcess.started(model, state, PATIENT_SERVER) as server:
            if killed:
                stored_besides += check_and_complete(server, state, killed[-1])
            if number < kills:
                killed.append(Round(f"round-{number}"))
                after_groups = chance.randrange(1, EVENTS // GROUP_EVENTS - AHEAD_GROUPS - 1)
                send_until_killed(server, killed[-1], after_groups, chance.uniform(0.0, 0.01))
    acknowledged = sum(len(events.tokens) for events in killed)
    print(f"{kills} kills: {acknowledged} events acknowledged, {stored_besides} stored without")


def test_events_acknowledged_before_a_kill_are_there_once(tiny_model: Path, tmp_path: Path) -> None:
    kill_again_and_again(tiny_model, tmp_path / "state.db", kills=1, seed=11)


@pytest.mark.slow
@pytest.mark.parametrize("life", range(5))
def test_events_acknowledged_before_ten_kills_are_there_once(life: int, tiny_model: Path, tmp_path: Path) -> None:
    """Fifty kills in all; five state files, because every restart reads what the live sessions hold."""
    kill_again_and_again(tiny_model, tmp_path / "state.db", kills=10, seed=life)
