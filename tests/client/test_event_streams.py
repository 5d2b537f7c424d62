"""Event streams that break: every event acknowledged once, in both clients, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import msgspec
import pytest

from recserv import v1 as pb
from recserv.client import (
    AsyncEventStream,
    AsyncRecommendationClient,
    CallFailed,
    ClientOptions,
    EventStream,
    Ingested,
    RecommendationClient,
    StreamOptions,
)
from recserv.errors import EventConflict, RecservError, StoreUnavailable
from recserv.pipeline.ingest import IngestOutcome
from recserv.types import Event, EventType, IngestStatus, ShopperKey
from tests.patience import HANG_GUARD_S, eventually, eventually_async
from tests.proxy import TcpProxy
from tests.server.harness import FakeIngestor, Service

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess

EVENTS = 300
LOST_EVERY = 60
PATIENT = ClientOptions(timeout_s=HANG_GUARD_S)
QUICK = StreamOptions(
    events_max=50,
    group_max=10,
    ack_timeout_s=HANG_GUARD_S,
    give_up_s=5 * HANG_GUARD_S,
    backoff_s=0.01,
    backoff_s_max=0.05,
)


def _events(session: str, count: int = EVENTS) -> list[Event]:
    return [
        Event(event_id=str(number), event_type=EventType.VIEW, session_id=session, item_id=f"item-{number % 50}")
        for number in range(count)
    ]


@pytest.fixture
def proxy(recserv_server: ServerProcess) -> Iterator[TcpProxy]:
    host, _, port = recserv_server.target.rpartition(":")
    with TcpProxy(host, int(port)) as started:
        yield started


def _lose_connections(proxy: TcpProxy, number: int) -> None:
    """Before every LOST_EVERYth event, when some are on their way. More are sent in between than may wait for their
    acknowledgement, so some of them are acknowledged over a connection of their own.
    """
    if number % LOST_EVERY == LOST_EVERY - 1:
        proxy.drop_connections()


def _connections() -> int:
    return 1 + EVENTS // LOST_EVERY


def _stored(server: ServerProcess, session: str) -> int:
    with RecommendationClient(server.target, options=PATIENT) as client:
        return client.context(ShopperKey(session_id=session)).event_count


def test_each_event_is_acknowledged_and_stored_once_though_connections_are_lost(
    proxy: TcpProxy, recserv_server: ServerProcess
) -> None:
    session = uuid.uuid4().hex
    with RecommendationClient(proxy.address) as client:
        with client.event_stream(QUICK) as stream:
            promises = []
            for number, event in enumerate(_events(session)):
                _lose_connections(proxy, number)
                promises.append(stream.send(event))
        results = [promise.result(0) for promise in promises]
    assert {result.status for result in results} <= {IngestStatus.ACCEPTED, IngestStatus.DUPLICATE}
    assert proxy.counts().connections >= _connections()
    assert _stored(recserv_server, session) == EVENTS


async def test_the_asyncio_stream_acknowledges_each_event_once_over_lost_connections(
    proxy: TcpProxy, recserv_server: ServerProcess
) -> None:
    session = uuid.uuid4().hex
    async with AsyncRecommendationClient(proxy.address, options=PATIENT) as client:
        async with client.event_stream(QUICK) as stream:
            promises = []
            for number, event in enumerate(_events(session)):
                _lose_connections(proxy, number)
                promises.append(await stream.send(event))
        results = [promise.result() for promise in promises]
        assert (await client.context(ShopperKey(session_id=session))).event_count == EVENTS
    assert {result.status for result in results} <= {IngestStatus.ACCEPTED, IngestStatus.DUPLICATE}
    assert proxy.counts().connections >= _connections()


class _FlakyIngestor(FakeIngestor):
    """Fails named events, each as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.left: dict[str, list[RecservError]] = {}

    def _outcome(self, event: Event) -> IngestOutcome:
        if self.left.get(event.event_id):
            return IngestOutcome(IngestStatus.REJECTED, error=self.left[event.event_id].pop(0))
        return super()._outcome(event)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr("tests.server.harness.FakeIngestor", _FlakyIngestor)
    with closing(Service()) as service:
        yield service


class _Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_server_that_falls_silent_is_left_for_a_new_stream(flaky: Service) -> None:
    hold, clock = threading.Event(), _Clock()
    flaky.ingestor.hold = hold
    first, second = _events("s", 2)
    with (
        RecommendationClient(flaky.address) as client,
        EventStream(client._stub.StreamEvents, QUICK, clock) as stream,
    ):
        try:
            promises = [stream.send(first)]
            eventually(lambda: flaky.ingestor.events)
            clock.now_s += QUICK.ack_timeout_s + 1
            # Sent on the silent stream, which is looked at thereby.
            promises.append(stream.send(second))
            eventually(lambda: _times_seen(flaky, first) == 2)
        finally:
            hold.set()
        assert {promise.result(HANG_GUARD_S).status for promise in promises} == {IngestStatus.ACCEPTED}


async def test_the_asyncio_stream_leaves_a_silent_server_too(flaky: Service) -> None:
    hold, clock = threading.Event(), _Clock()
    flaky.ingestor.hold = hold
    first, second = _events("s", 2)
    async with (
        AsyncRecommendationClient(flaky.address) as client,
        AsyncEventStream(client._stub.StreamEvents, QUICK, clock) as stream,
    ):
        try:
            promises = [await stream.send(first)]
            await eventually_async(lambda: flaky.ingestor.events)
            clock.now_s += QUICK.ack_timeout_s + 1
            promises.append(await stream.send(second))
            await eventually_async(lambda: _times_seen(flaky, first) == 2)
        finally:
            hold.set()
        assert {(await asyncio.wait_for(promise, HANG_GUARD_S)).status for promise in promises} == {
            IngestStatus.ACCEPTED
        }


class _FakeCall:
    """Of a stream that acknowledges each group, or takes none at all: its flow control is exhausted for good."""

    def __init__(self, *, takes: bool) -> None:
        self._takes, self.asked = takes, asyncio.Event()
        self._answers: asyncio.Queue[Any] = asyncio.Queue()

    async def write(self, group: pb.StreamEventsRequest) -> None:
        self.asked.set()
        if not self._takes:
            await asyncio.Event().wait()
        results = [{"status": pb.INGEST_STATUS_ACCEPTED} for _ in group.events]
        self._answers.put_nowait(pb.StreamEventsResponse(results=results))

    async def read(self) -> Any:
        return await self._answers.get()

    async def done_writing(self) -> None:
        self._answers.put_nowait(grpc.aio.EOF)  # type: ignore[attr-defined]

    def cancel(self) -> None:
        pass


async def test_a_server_that_takes_nothing_is_left_though_the_write_never_ends() -> None:
    clock, first, second = _Clock(), _FakeCall(takes=False), _FakeCall(takes=True)
    calls = iter([first, second])
    async with AsyncEventStream(lambda: next(calls), QUICK, clock) as stream:
        promises = [await stream.send(event) for event in _events("s", 1)]
        await asyncio.wait_for(first.asked.wait(), HANG_GUARD_S)
        clock.now_s += QUICK.ack_timeout_s + 1
        # Whatever happens makes it look at the clock.
        promises += [await stream.send(event) for event in _events("t", 1)]
        for promise in promises:
            assert (await asyncio.wait_for(promise, HANG_GUARD_S)).status is IngestStatus.ACCEPTED


def _times_seen(service: Service, event: Event) -> int:
    return [seen.event_id for seen in service.ingestor.events].count(event.event_id)


REFUSED_BY_PROTOBUF: list[dict[str, Any]] = [{"quantity": 2**31}, {"event_type": 99}, {"search_query": "\ud800"}]


@pytest.mark.parametrize("wrong", REFUSED_BY_PROTOBUF)
def test_an_event_that_cannot_be_encoded_is_refused_to_its_sender_alone(flaky: Service, wrong: dict[str, Any]) -> None:
    good, bad = _events("s", 1)[0], msgspec.structs.replace(_events("t", 1)[0], **wrong)
    with RecommendationClient(flaky.address) as client, client.event_stream(QUICK) as stream:
        promise = stream.send(good)
        with pytest.raises(ValueError) as refused:
            stream.send(bad)
        promise.result(HANG_GUARD_S)
        stream.send(good).result(HANG_GUARD_S)
        with pytest.raises(type(refused.value)):
            client.ingest(bad)


@pytest.mark.parametrize("wrong", REFUSED_BY_PROTOBUF)
async def test_the_asyncio_stream_refuses_an_event_that_cannot_be_encoded(
    flaky: Service, wrong: dict[str, Any]
) -> None:
    good, bad = _events("s", 1)[0], msgspec.structs.replace(_events("t", 1)[0], **wrong)
    async with AsyncRecommendationClient(flaky.address) as client, client.event_stream(QUICK) as stream:
        promise = await stream.send(good)
        with pytest.raises(ValueError):
            await stream.send(bad)
        await asyncio.wait_for(promise, HANG_GUARD_S)
        await asyncio.wait_for(await stream.send(good), HANG_GUARD_S)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_stream_that_cannot_go_on_says_so_to_who_waits(flaky: Service) -> None:
    flaky.ingestor.hold = threading.Event()
    client = RecommendationClient(flaky.address)
    with client.event_stream(QUICK) as stream:
        promise = stream.send(_events("s", 1)[0])
        eventually(lambda: flaky.ingestor.events)
        client.close()
        flaky.ingestor.hold.set()
        with pytest.raises(ValueError, match="closed"):
            promise.result(HANG_GUARD_S)
        stream.flush()
        with pytest.raises(CallFailed, match="closed"):
            stream.send(_events("s", 1)[0])


def test_closing_an_idle_stream_whose_server_went_away_opens_no_other() -> None:
    opened = []

    def rpc(groups: Iterator[Any]) -> Iterator[Any]:
        opened.append(groups)
        return iter(())

    stream = EventStream(rpc, QUICK)
    stream._changed = changed = _Watched()
    with stream:
        eventually(lambda: stream._thread in changed.waiting, "idle")
    assert len(opened) == 1


class _Watched(threading.Condition):
    """Tells which threads wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: set[threading.Thread] = set()

    def wait(self, timeout: float | None = None) -> bool:
        thread = threading.current_thread()
        self.waiting.add(thread)
        try:
            return super().wait(timeout)
        finally:
            self.waiting.discard(thread)


def test_a_group_is_not_taken_for_a_stream_that_ended_meanwhile() -> None:
    stream = EventStream(None, QUICK)
    stream.send(_events("s", 1)[0])

    class EndsWhenAsked(threading.Event):
        """The stream ends right after it was asked whether it had: at once if the lock is free, else when it is."""

        def is_set(self) -> bool:
            before = super().is_set()
            if not before:
                ender.start()
                assert tried.wait(HANG_GUARD_S)
            return before

    over, tried = EndsWhenAsked(), threading.Event()

    def end() -> None:
        over.set()
        free = stream._changed.acquire(blocking=False)
        if not free:
            tried.set()
            stream._changed.acquire()
        try:
            stream._outbox.broken(CallFailed("UNAVAILABLE", "gone"), 0.0)
        finally:
            stream._changed.release()
            tried.set()

    ender = threading.Thread(target=end)
    groups = stream._groups(over)
    next(groups, None)
    ender.join(HANG_GUARD_S)
    # What a call that is over took would be acknowledged by the next one's first answer.
    assert stream._outbox.in_flight == 0
    assert next(groups, None) is None


def test_an_event_that_the_store_did_not_take_is_sent_again_and_a_bad_one_fails_alone(flaky: Service) -> None:
    flaky.ingestor.left = {
        "2": [StoreUnavailable("down", retry_after_ms=20), StoreUnavailable("down", retry_after_ms=20)],
        "3": [EventConflict("another body")],
    }
    with RecommendationClient(flaky.address) as client, client.event_stream(QUICK) as stream:
        promises = [stream.send(event) for event in _events("s", 6)]
        stream.flush()
    assert [promise.exception(0) is None for promise in promises] == [True, True, True, False, True, True]
    with pytest.raises(EventConflict):
        promises[3].result(0)
    assert [event.event_id for event in flaky.ingestor.events].count("2") == 3


def test_an_event_is_given_up_after_its_time_with_what_was_wrong(flaky: Service) -> None:
    flaky.ingestor.left = {"0": [StoreUnavailable("the disk is full", retry_after_ms=10) for _ in range(1000)]}
    options = StreamOptions(give_up_s=0.2)
    with RecommendationClient(flaky.address) as client, client.event_stream(options) as stream:
        promise = stream.send(_events("s", 1)[0])
        with pytest.raises(StoreUnavailable, match="the disk is full") as caught:
            promise.result(HANG_GUARD_S)
    assert isinstance(caught.value, CallFailed)
    assert caught.value.code == "UNAVAILABLE"


def test_a_full_outbox_makes_the_sender_wait(flaky: Service) -> None:
    hold = threading.Event()
    flaky.ingestor.hold = hold
    options = StreamOptions(events_max=5, group_max=1, ack_timeout_s=HANG_GUARD_S)
    with RecommendationClient(flaky.address) as client:
        stream = client.event_stream(options)
        stream._changed = changed = _Watched()
        with stream:
            for event in _events("s", 5):
                stream.send(event)
            blocked = threading.Thread(target=lambda: stream.send(_events("t", 1)[0]))
            blocked.start()
            try:
                eventually(lambda: blocked in changed.waiting or not blocked.is_alive())
                assert blocked.is_alive()
            finally:
                hold.set()
            blocked.join(HANG_GUARD_S)
            assert not blocked.is_alive()


def test_leaving_by_an_error_lets_go_at_once(flaky: Service) -> None:
    flaky.ingestor.hold = threading.Event()
    left: list[Future[Ingested]] = []

    def leave(client: RecommendationClient) -> None:
        with client.event_stream(QUICK) as stream:
            left.append(stream.send(_events("s", 1)[0]))
            eventually(lambda: flaky.ingestor.events)
            raise KeyError

    try:
        with RecommendationClient(flaky.address) as client, pytest.raises(KeyError):
            leave(client)
        with pytest.raises(CallFailed):
            left[0].result(0)
    finally:
        flaky.ingestor.hold.set()


def test_a_draining_server_answers_what_it_took_and_the_rest_goes_to_the_next(flaky: Service) -> None:
    with (
        closing(Service()) as next_one,
        TcpProxy("127.0.0.1", int(flaky.address.rpartition(":")[2])) as proxy,
        RecommendationClient(proxy.address) as client,
        client.event_stream(QUICK) as stream,
    ):
        stream.send(_events("s", 1)[0]).result(HANG_GUARD_S)
        proxy.redirect("127.0.0.1", int(next_one.address.rpartition(":")[2]))
        assert flaky.drain_soon(HANG_GUARD_S).result(HANG_GUARD_S)
        stream.send(_events("t", 1)[0]).result(HANG_GUARD_S)
        assert [event.session_id for event in next_one.ingestor.events] == ["t"]
