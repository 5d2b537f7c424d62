"""kill -9 of a Redis that syncs every write, under load, again and again: what was acknowledged is there, once; what
was not is reported UNAVAILABLE with a delay to retry after, and is taken when it is sent again.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path

import grpc
import pytest
import redis
from google.rpc import error_details_pb2

from recserv import v1 as pb
from recserv.app.server_process import ServerProcess
from tests.patience import HANG_GUARD_S, PATIENT_SERVER, eventually
from tests.redis_server import RedisServer, running_redis
from tests.server.harness import Client, Failure, detail_of, view
from tests.stores.redis_support import counted, logged

SENDERS = 4
GROUP_EVENTS = 5
TAKEN_BEFORE_MAX, REFUSED_BEFORE_MAX = 300, 200
SESSIONS = 12
KINDS = (pb.EVENT_TYPE_VIEW, pb.EVENT_TYPE_ADD_TO_CART, pb.EVENT_TYPE_PURCHASE, pb.EVENT_TYPE_IMPRESSION)
TAKEN = (pb.INGEST_STATUS_ACCEPTED, pb.INGEST_STATUS_DUPLICATE)


class Sender(threading.Thread):
    """Sends events without a pause, one by one and in groups in turn, until it is told to stop."""

    def __init__(self, target: str, name: str):
        super().__init__(name=name, daemon=True)
        self._client = Client(target)
        self._told = threading.Event()
        self.taken: list[pb.Event] = []
        self.refused: list[pb.Event] = []
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            number = 0
            while not self._told.is_set():
                size = 1 if number % 2 else GROUP_EVENTS
                self.send([self._event(number + n) for n in range(size)])
                number += size
        except BaseException as problem:
            self.problem = problem

    def _event(self, number: int) -> pb.Event:
        session = number % SESSIONS
        return view(
            f"{self.name}-{number}",
            session_id=f"s-{session}",
            user_id=f"u-{session % 5}" if session % 2 else "",
            item_id=f"item-{number % 150}",
            event_type=KINDS[number % len(KINDS)],
        )

    def send(self, events: list[pb.Event]) -> None:
        if len(events) == 1:
            self._send_one(events[0])
            return
        raw = self._client.unary("BatchIngestEvents", pb.BatchIngestEventsRequest(events=events), timeout=HANG_GUARD_S)
        results = pb.BatchIngestEventsResponse.FromString(raw).results
        for event, result in zip(events, results, strict=True):
            if result.status in TAKEN:
                self.taken.append(event)
            else:
                assert result.error.code == grpc.StatusCode.UNAVAILABLE.value[0], result.error
                assert detail_of(result.error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
                self.refused.append(event)

    def _send_one(self, event: pb.Event) -> None:
        refusal = None
        try:
            raw = self._client.unary("IngestEvent", pb.IngestEventRequest(event=event), timeout=HANG_GUARD_S)
        except Failure as failure:
            refusal = failure
        if refusal is None:
            assert pb.IngestEventResponse.FromString(raw).status in TAKEN
            self.taken.append(event)
            return
        assert refusal.code == grpc.StatusCode.UNAVAILABLE, refusal
        assert refusal.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
        self.refused.append(event)

    def end(self) -> None:
        self._told.set()
        self.join(HANG_GUARD_S)
        assert not self.is_alive()
        assert self.problem is None, self.problem

    def send_refused_again(self) -> None:
        """Until each is taken."""

        def all_taken() -> bool:
            events, self.refused = self.refused, []
            for at in range(0, len(events), GROUP_EVENTS):
                self.send(events[at : at + GROUP_EVENTS])
            return not self.refused

        eventually(all_taken, f"{self.name}: what was refused is taken")

    def close(self) -> None:
        self._client.channel.close()


class Books:
    """What all rounds have seen."""

    def __init__(self) -> None:
        self.taken: list[pb.Event] = []
        self.refused = self.stored_besides = 0

    def check_kill(self, stored: set[tuple[str, str]], senders: list[Sender]) -> None:
        acknowledged = {key_of(event) for sender in senders for event in sender.taken}
        refused = {key_of(event) for sender in senders for event in sender.refused}
        assert acknowledged <= stored, f"lost: {sorted(acknowledged - stored)[:5]}"
        self.refused += len(refused)
        self.stored_besides += len(refused & stored)

    def check_all(self, client: redis.Redis, server: ServerProcess) -> None:
        entries = logged(client)
        assert Counter(map(key_of, (entry.append.event for entry in entries))) == Counter(map(key_of, self.taken))
        assert counted(client) == Counter(event.event_type for event in self.taken)
        caller = Client(server.target)
        of_users = Counter(event.user_id for event in self.taken if event.user_id)
        for user_id, count in of_users.items():
            raw = caller.unary("GetContext", pb.GetContextRequest(user_id=user_id), timeout=HANG_GUARD_S)
            assert pb.GetContextResponse.FromString(raw).event_count == count
        caller.channel.close()


def key_of(event: object) -> tuple[str, str]:
    return event.session_id, event.event_id  # type: ignore[attr-defined]


def stored_keys(server: RedisServer) -> set[tuple[str, str]]:
    with redis.Redis(port=server.port) as client:
        found = [key_of(entry.append.event) for entry in logged(client)]
    assert len(found) == len(set(found))
    return set(found)


def wait_for(senders: list[Sender], which: str, count: int) -> None:
    """Until so many events of all senders were taken, or refused."""

    def enough() -> bool:
        problems = [sender.problem for sender in senders if sender.problem is not None]
        assert problems == []
        return sum(len(getattr(sender, which)) for sender in senders) >= count

    eventually(enough, f"{count} events are {which}")


def kill_again_and_again(model: Path, directory: Path, kills: int, seed: int) -> None:
    chance, books = random.Random(seed), Books()
    with (
        running_redis(directory) as redis_server,
        ServerProcess.started(model, redis_server.url, PATIENT_SERVER) as server,
    ):
        for number in range(kills):
            senders = [Sender(server.target, f"k{number}-{n}") for n in range(SENDERS)]
            for sender in senders:
                sender.start()
            wait_for(senders, "taken", chance.randrange(TAKEN_BEFORE_MAX))
            redis_server.kill()
            # Under load all the while: some events meet a Redis that is not there.
            wait_for(senders, "refused", chance.randrange(1, REFUSED_BEFORE_MAX))
            redis_server.restart()
            for sender in senders:
                sender.end()
            books.check_kill(stored_keys(redis_server), senders)
            for sender in senders:
                sender.send_refused_again()
                books.taken += sender.taken
                sender.close()
        with redis.Redis(port=redis_server.port) as client:
            books.check_all(client, server)
    assert books.refused > 0
    print(
        f"seed {seed}, {kills} kills: {len(books.taken)} events, {books.refused} of them refused first,"
        f" {books.stored_besides} of these were stored all the same"
    )


def test_events_acknowledged_before_redis_is_killed_are_there_once(tiny_model: Path, tmp_path: Path) -> None:
    kill_again_and_again(tiny_model, tmp_path, kills=1, seed=3)


@pytest.mark.chaos
def test_events_acknowledged_before_fifty_kills_of_redis_are_there_once(tiny_model: Path, tmp_path: Path) -> None:
    kill_again_and_again(tiny_model, tmp_path, kills=50, seed=5)
