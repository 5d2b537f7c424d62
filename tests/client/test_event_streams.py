"""Event streams that break: every event acknowledged once, in both clients, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from recserv.client import AsyncRecommendationClient, CallFailed, Ingested, RecommendationClient, StreamOptions
from recserv.client.event_stream import EventStream
from recserv.errors import EventConflict, RecservError, StoreUnavailable
from recserv.pipeline.ingest import IngestOutcome
from recserv.types import Event, EventType, IngestStatus, ShopperKey
from tests.proxy import TcpProxy
from tests.server.harness import FakeIngestor, Service, eventually

if TYPE_CHECKING:
    from recserv.commands.server_process import ServerProcess

EVENTS = 300
WAIT_S = 30.0
QUICK = StreamOptions(events_max=50, group_max=10, backoff_s=0.01, backoff_s_max=0.05)
IMPATIENT = StreamOptions(ack_timeout_s=0.3, backoff_s=0.01, backoff_s_max=0.05)


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


@contextmanager
def _connections_lost(proxy: TcpProxy, times: int = 5) -> Iterator[None]:
    """Drops the connections again and again, each time after some bytes more of acknowledgements have passed."""
    stop = threading.Event()

    def drop() -> None:
        for _ in range(times):
            before = proxy.counts().reply_bytes
            while not stop.is_set() and proxy.counts().reply_bytes < before + 500:
                stop.wait(0.002)
            proxy.drop_connections()

    thread = threading.Thread(target=drop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _stored(server: ServerProcess, session: str) -> int:
    with RecommendationClient(server.target, timeout_s=10.0) as client:
        return client.context(ShopperKey(session_id=session)).event_count


def test_each_event_is_acknowledged_and_stored_once_though_connections_are_lost(
    proxy: TcpProxy, recserv_server: ServerProcess
) -> None:
    session = uuid.uuid4().hex
    with RecommendationClient(proxy.address) as client, _connections_lost(proxy):
        with client.event_stream(QUICK) as stream:
            promises = [stream.send(event) for event in _events(session)]
        results = [promise.result(0) for promise in promises]
    assert {result.status for result in results} <= {IngestStatus.ACCEPTED, IngestStatus.DUPLICATE}
    assert proxy.counts().connections > 1
    assert _stored(recserv_server, session) == EVENTS


async def test_the_asyncio_stream_does_the_same(proxy: TcpProxy, recserv_server: ServerProcess) -> None:
    session = uuid.uuid4().hex
    async with AsyncRecommendationClient(proxy.address) as client:
        with _connections_lost(proxy):
            async with client.event_stream(QUICK) as stream:
                promises = [await stream.send(event) for event in _events(session)]
            results = [promise.result() for promise in promises]
        assert (await client.context(ShopperKey(session_id=session))).event_count == EVENTS
    assert {result.status for result in results} <= {IngestStatus.ACCEPTED, IngestStatus.DUPLICATE}
    assert proxy.counts().connections > 1


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


def test_a_server_that_falls_silent_is_left_for_a_new_stream(flaky: Service) -> None:
    flaky.ingestor.hold = threading.Event()
    with RecommendationClient(flaky.address) as client, client.event_stream(IMPATIENT) as stream:
        promise = stream.send(_events("s", 1)[0])
        try:
            eventually(lambda: len(flaky.ingestor.events) > 1)
        finally:
            flaky.ingestor.hold.set()
        promise.result(WAIT_S)


async def test_the_asyncio_stream_leaves_a_silent_server_too(flaky: Service) -> None:
    flaky.ingestor.hold = threading.Event()
    async with AsyncRecommendationClient(flaky.address) as client, client.event_stream(IMPATIENT) as stream:
        promise = await stream.send(_events("s", 1)[0])
        try:
            await asyncio.to_thread(eventually, lambda: len(flaky.ingestor.events) > 1)
        finally:
            flaky.ingestor.hold.set()
        await asyncio.wait_for(promise, WAIT_S)


REFUSED_BY_PROTOBUF: list[dict[str, Any]] = [{"quantity": 2**31}, {"event_type": 99}, {"search_query": "\ud800"}]


@pytest.mark.parametrize("wrong", REFUSED_BY_PROTOBUF)
def test_an_event_that_cannot_be_encoded_is_refused_to_its_sender_alone(flaky: Service, wrong: dict[str, Any]) -> None:
    good, bad = _events("s", 1)[0], msgspec.structs.replace(_events("t", 1)[0], **wrong)
    with RecommendationClient(flaky.address) as client, client.event_stream(QUICK) as stream:
        promise = stream.send(good)
        with pytest.raises(ValueError) as refused:
            stream.send(bad)
        promise.result(WAIT_S)
        stream.send(good).result(WAIT_S)
        with pytest.raises(type(refused.value)):
            client.ingest(bad)


@pytest.mark.parametrize("wrong", REFUSED_BY_PROTOBUF)
async def test_the_asyncio_stream_refuses_it_alike(flaky: Service, wrong: dict[str, Any]) -> None:
    good, bad = _events("s", 1)[0], msgspec.structs.replace(_events("t", 1)[0], **wrong)
    async with AsyncRecommendationClient(flaky.address) as client, client.event_stream(QUICK) as stream:
        promise = await stream.send(good)
        with pytest.raises(ValueError):
            await stream.send(bad)
        await asyncio.wait_for(promise, WAIT_S)
        await asyncio.wait_for(await stream.send(good), WAIT_S)


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
            promise.result(WAIT_S)
        stream.flush()
        with pytest.raises(CallFailed, match="closed"):
            stream.send(_events("s", 1)[0])


def test_closing_an_idle_stream_whose_server_went_away_opens_no_other() -> None:
    opened = []

    def rpc(groups: Iterator[Any]) -> Iterator[Any]:
        opened.append(groups)
        return iter(())

    with EventStream(rpc, QUICK):
        eventually(lambda: opened)
        # Idle by now.
        time.sleep(0.05)
    assert len(opened) == 1


def test_a_group_is_not_taken_for_a_stream_that_ended_meanwhile() -> None:
    stream = EventStream(None, QUICK)
    stream.send(_events("s", 1)[0])

    class EndsWhenAsked(threading.Event):
        """The stream ends right after it was asked whether it had, as soon as the lock is free."""

        def is_set(self) -> bool:
            before = super().is_set()
            if not before:
                ender.start()
                ender.join(0.2)
            return before

    over = EndsWhenAsked()

    def end() -> None:
        over.set()
        with stream._changed:
            stream._outbox.broken(CallFailed("UNAVAILABLE", "gone"), time.monotonic())

    ender = threading.Thread(target=end)
    groups = stream._groups(over)
    next(groups, None)
    ender.join(WAIT_S)
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
            promise.result(WAIT_S)
    assert isinstance(caught.value, CallFailed)
    assert caught.value.code == "UNAVAILABLE"


def test_a_full_outbox_makes_the_sender_wait(flaky: Service) -> None:
    flaky.ingestor.hold = threading.Event()
    options = StreamOptions(events_max=5, group_max=1)
    with RecommendationClient(flaky.address) as client, client.event_stream(options) as stream:
        for event in _events("s", 5):
            stream.send(event)
        blocked = threading.Thread(target=lambda: stream.send(_events("t", 1)[0]))
        blocked.start()
        blocked.join(0.1)
        assert blocked.is_alive()
        flaky.ingestor.hold.set()
        blocked.join(WAIT_S)
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
        stream.send(_events("s", 1)[0]).result(WAIT_S)
        proxy.redirect("127.0.0.1", int(next_one.address.rpartition(":")[2]))
        assert flaky.drain_soon().result(WAIT_S)
        stream.send(_events("t", 1)[0]).result(WAIT_S)
        assert [event.session_id for event in next_one.ingestor.events] == ["t"]
