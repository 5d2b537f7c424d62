"""SIGTERM in the middle of calls: what was taken is finished and answered, what is answered is stored, exit code 0."""

from __future__ import annotations

import itertools
import json
import os
import queue
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from recserv import v1 as pb
from recserv.app.server_process import ServerProcess
from tests.durability.state_file import read_state_file
from tests.patience import HANG_GUARD_S, PATIENT_SERVER
from tests.server.harness import SERVICE, Client, Failure, view

GROUP_EVENTS = 50
GROUPS_AHEAD = 4
ACCEPTED = pb.INGEST_STATUS_ACCEPTED
# CANCELLED is gRPC's own word to a call that it had not yet handed to the server when the port closed.
TURNED_AWAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
}
INGEST = f"/{SERVICE}/IngestEvent"
# Longer than any client here waits: whatever holds the server up until the drain is cut short is seen.
OPTIONS = [*PATIENT_SERVER, "--drain-ms", str(round(2 * HANG_GUARD_S * 1000))]


def group(number: int) -> pb.StreamEventsRequest:
    return pb.StreamEventsRequest(
        events=[view(f"e-{number}-{n}", session_id=f"s-{n % 5}", item_id=f"item-{n}") for n in range(GROUP_EVENTS)]
    )


def groups_without_end(places: threading.Semaphore) -> Iterator[pb.StreamEventsRequest]:
    for number in itertools.count():
        if not places.acquire(timeout=HANG_GUARD_S):
            return
        yield group(number)


def ends_well(server: ServerProcess) -> None:
    assert server.wait() == 0
    # The tail may begin in the middle of a line.
    messages = [json.loads(line)["message"] for line in server.log_tail().splitlines() if line.startswith("{")]
    assert "drain cut short" not in messages
    assert messages[-1] == "drained"


def stream_until_told_to_go(server: ServerProcess, after_groups: int, acknowledged: set[tuple[str, str]]) -> Failure:
    """Sends groups for as long as the server takes them, and SIGTERM after so many answers."""
    client = Client(server.target)
    # A client that sends without end meets a reset connection and loses what the server had answered.
    places = threading.Semaphore(GROUPS_AHEAD)
    try:
        for number, raw in enumerate(client.open_events(groups_without_end(places), timeout=HANG_GUARD_S)):
            places.release()
            results = pb.StreamEventsResponse.FromString(raw).results
            assert [result.status for result in results] == [ACCEPTED] * GROUP_EVENTS
            acknowledged |= {(f"s-{n % 5}", result.event_id) for n, result in enumerate(results)}
            if number + 1 == after_groups:
                os.kill(server.pid, signal.SIGTERM)
    except grpc.RpcError as error:
        return Failure(error)
    finally:
        client.channel.close()
        places.release()
    raise AssertionError("the stream ended as if nothing had been")


@pytest.mark.parametrize("after_groups", [1, 7, 40])
def test_a_stream_under_way_is_answered_for_what_it_sent_and_told_to_go(
    after_groups: int, tiny_model: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state.db"
    acknowledged: set[tuple[str, str]] = set()
    with ServerProcess.started(tiny_model, state, OPTIONS) as server:
        failure = stream_until_told_to_go(server, after_groups, acknowledged)
        ends_well(server)
    assert failure.code == grpc.StatusCode.UNAVAILABLE
    assert failure.detail(error_details_pb2.ErrorInfo).reason == "DRAINING"
    assert failure.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    assert len(acknowledged) >= after_groups * GROUP_EVENTS
    stored = read_state_file(state)
    stored.check()
    # Whatever was taken was answered before the stream ended.
    assert set(stored.times) == acknowledged


def test_single_events_under_way_are_stored_if_they_were_acknowledged(tiny_model: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    with ServerProcess.started(tiny_model, state, OPTIONS) as server:
        client = Client(server.target)
        send = client.channel.unary_unary(INGEST)
        waiting = {}
        done: queue.SimpleQueue[str] = queue.SimpleQueue()
        for number in range(200):
            event_id = f"e-{number}"
            body = pb.IngestEventRequest(event=view(event_id, item_id=f"item-{number % 150}")).SerializeToString()
            waiting[event_id] = send.future(body, timeout=HANG_GUARD_S)
            waiting[event_id].add_done_callback(lambda _, event_id=event_id: done.put(event_id))
        done.get(timeout=HANG_GUARD_S)
        os.kill(server.pid, signal.SIGTERM)
        acknowledged = set()
        for event_id, call in waiting.items():
            error = call.exception(HANG_GUARD_S)
            if error is None:
                assert pb.IngestEventResponse.FromString(call.result()).status == ACCEPTED
                acknowledged.add(("s-1", event_id))
            else:
                assert error.code() in TURNED_AWAY, error
        client.channel.close()
        ends_well(server)
    assert acknowledged
    stored = read_state_file(state)
    stored.check()
    assert acknowledged <= set(stored.times)


def test_a_stream_that_says_nothing_does_not_hold_the_server_up(tiny_model: Path, tmp_path: Path) -> None:
    told: queue.SimpleQueue[None] = queue.SimpleQueue()

    def silent() -> Iterator[pb.StreamEventsRequest]:
        yield group(0)
        told.get(timeout=HANG_GUARD_S)

    with ServerProcess.started(tiny_model, tmp_path / "state.db", OPTIONS) as server:
        client = Client(server.target)
        stream = client.open_events(silent(), timeout=HANG_GUARD_S)
        next(stream)
        os.kill(server.pid, signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        told.put(None)
        client.channel.close()
        ends_well(server)
