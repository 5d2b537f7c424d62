"""The disk fills up under a running server: no event is taken that could be lost, all else is answered, and once there
is room again events are taken as if nothing had been.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2
from grpc_health.v1 import health_pb2

from recserv import v1 as pb
from recserv.app.server_process import ServerProcess
from tests.durability.servers import launched, serve_arguments, stopped
from tests.durability.state_file import read_state_file
from tests.patience import HANG_GUARD_S, PATIENT_SERVER
from tests.server.harness import Client, Failure, detail_of, view
from tests.stores.tracing import python
from tests.tools import on_a_small_disk

FILE_BYTES_MAX = 400_000
DISK_BYTES_LEFT = 1_000_000
EVENTS_MAX = 20_000
ACCEPTED, DUPLICATE = pb.INGEST_STATUS_ACCEPTED, pb.INGEST_STATUS_DUPLICATE


class Place(NamedTuple):
    """A running server, and how to fill and clear the disk that it writes to."""

    target: str
    fill: Callable[[], None]
    clear: Callable[[], None]
    stop: Callable[[], int]
    state: Path


@contextmanager
def limited(model: Path, directory: Path) -> Iterator[Place]:
    """The process may not let any file outgrow a size: what a full disk is to whoever may not mount one."""
    endless = resource.RLIM_INFINITY
    with ServerProcess.started(model, directory / "state.db", PATIENT_SERVER) as server:

        def allow(size: int) -> None:
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, endless))

        yield Place(
            server.target,
            lambda: allow(FILE_BYTES_MAX),
            lambda: allow(endless),
            lambda: stopped(server),
            directory / "state.db",
        )


@contextmanager
def mounted(model: Path, directory: Path) -> Iterator[Place]:
    """A small disk of its own, in a name space that ends with the process."""
    state = directory / "state.db"
    server = python("recserv", "serve", *serve_arguments(model, state), *PATIENT_SERVER)
    with launched(on_a_small_disk(directory, server), {}) as (process, target):
        # Held open, it outlives the name space: what the server left there can be read after its end.
        disk = os.open(f"/proc/{process.pid}/root{directory}", os.O_RDONLY)
        seen = Path(f"/proc/self/fd/{disk}")

        def fill() -> None:
            left = os.statvfs(seen)
            (seen / "ballast").write_bytes(b"x" * (left.f_bavail * left.f_frsize - DISK_BYTES_LEFT))

        def stop() -> int:
            os.kill(process.pid, signal.SIGTERM)
            code = process.wait(HANG_GUARD_S)
            for path in seen.glob("state.db*"):
                shutil.copy(path, directory)
            return code

        try:
            yield Place(target, fill, (seen / "ballast").unlink, stop, state)
        finally:
            os.close(disk)


class Shopper:
    """Sends numbered events, each large enough to fill up the disk soon. `stored`: those that were acknowledged."""

    def __init__(self, target: str):
        self.client = Client(target)
        self.stored: list[int] = []

    def event(self, number: int) -> pb.Event:
        session, padding = f"s-{number % 7}", {"padding": "x" * 500}
        return view(f"e-{number}", session_id=session, item_id=f"item-{number % 150}", properties=padding)

    def send(self, number: int) -> int:
        """Raises Failure."""
        raw = self.client.unary("IngestEvent", pb.IngestEventRequest(event=self.event(number)))
        status = pb.IngestEventResponse.FromString(raw).status
        if status == ACCEPTED:
            self.stored.append(number)
        return status

    def send_until_refused(self) -> Failure:
        """One failure may only be the log ahead of its checkpoint; three in a row are a full disk."""
        number = failures = 0
        while number < EVENTS_MAX:
            try:
                assert self.send(number) == ACCEPTED
                number, failures = number + 1, 0
            except Failure as failure:
                failures += 1
                if failures == 3:
                    return failure
        raise AssertionError("the disk never filled up")


def check_while_full(shopper: Shopper) -> None:
    """Nothing is taken, by whichever method; what was stored is known; the rest of the service does not notice."""
    client, first = shopper.client, len(shopper.stored)
    fresh = [shopper.event(first + n) for n in range(3)]
    raw = client.unary("BatchIngestEvents", pb.BatchIngestEventsRequest(events=[shopper.event(0), *fresh]))
    known, *refused = pb.BatchIngestEventsResponse.FromString(raw).results
    [streamed], failure = client.events([pb.StreamEventsRequest(events=fresh)])
    assert failure is None
    for result in [*refused, *streamed.results]:
        assert (result.status, result.error.code) == (pb.INGEST_STATUS_REJECTED, code_pb2.UNAVAILABLE)
        assert detail_of(result.error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
        assert not result.consistency_token
    assert (known.status, shopper.send(0)) == (DUPLICATE, DUPLICATE)
    answer = pb.RecommendResponse.FromString(client.unary("Recommend", pb.RecommendRequest(session_id="s-1")))
    assert (len(answer.results), answer.degraded) == (10, False)
    assert any(reason.because_item_ids for result in answer.results for reason in result.reasons)
    context = pb.GetContextResponse.FromString(client.unary("GetContext", pb.GetContextRequest(session_id="s-1")))
    assert context.event_count == sum(number % 7 == 1 for number in shopper.stored)
    raw = client.channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=HANG_GUARD_S)
    assert health_pb2.HealthCheckResponse.FromString(raw).status == health_pb2.HealthCheckResponse.SERVING


def fill_up_and_clear(place: Place) -> None:
    shopper = Shopper(place.target)
    place.fill()
    refusal = shopper.send_until_refused()
    assert len(shopper.stored) > 10
    assert refusal.code == grpc.StatusCode.UNAVAILABLE
    assert refusal.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    assert refusal.detail(error_details_pb2.ErrorInfo).reason == "STORE_UNAVAILABLE"
    assert str(place.state.parent) not in refusal.text
    check_while_full(shopper)
    place.clear()
    for number in range(len(shopper.stored), len(shopper.stored) + 20):
        assert shopper.send(number) == ACCEPTED
    shopper.client.channel.close()
    assert place.stop() == 0
    after = read_state_file(place.state)
    after.check()
    assert set(after.times) == {(f"s-{number % 7}", f"e-{number}") for number in shopper.stored}


def test_a_state_file_that_may_not_grow_makes_events_unavailable_until_it_may(tiny_model: Path, tmp_path: Path) -> None:
    with limited(tiny_model, tmp_path) as place:
        fill_up_and_clear(place)


@pytest.mark.chaos
def test_a_full_disk_makes_events_unavailable_until_there_is_room(tiny_model: Path, tmp_path: Path) -> None:
    directory = tmp_path / "disk"
    directory.mkdir()
    with mounted(tiny_model, directory) as place:
        fill_up_and_clear(place)
