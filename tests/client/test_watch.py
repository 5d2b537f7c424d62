"""Recommendations that are watched: over streams that break, and until nobody listens."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest

from recserv.client import (
    AsyncRecommendationClient,
    CallFailed,
    ClientOptions,
    RecommendationClient,
    RecommendationWatch,
)
from recserv.client.again import Backoff
from recserv.client.failures import TurnedAway
from recserv.client.watch import LASTED_S, Resumption
from recserv.errors import InvalidInput, NotImplementedYet, Overloaded
from recserv.types import Priority, Recommendation, RecommendQuery
from tests.patience import HANG_GUARD_S, eventually, eventually_async
from tests.proxy import TcpProxy
from tests.watches import POPULAR, Failure, FakeWatches, fake_watches, token_of

QUERY = RecommendQuery(session_id="s")
ONCE = ClientOptions(backoff_s=0.01, backoff_s_max=0.02, attempts_max=1)
"""Without gRPC's own retries, so that what the fake counts is the client's doing."""
UNAVAILABLE = Failure(grpc.StatusCode.UNAVAILABLE)


@pytest.fixture
def fake() -> Iterator[FakeWatches]:
    with fake_watches() as served:
        yield served


@pytest.fixture
def client(fake: FakeWatches) -> Iterator[RecommendationClient]:
    with RecommendationClient(fake.address, options=ONCE) as made:
        yield made


def items(answer: Recommendation) -> tuple[str, ...]:
    return tuple(result.item_id for result in answer.results)


def test_the_list_comes_at_once_and_whenever_it_changed(fake: FakeWatches, client: RecommendationClient) -> None:
    watch = client.watch_recommendations(RecommendQuery(session_id="s", page_size=7, priority=Priority.HIGH))
    assert items(next(watch)) == POPULAR
    assert watch.resume_token == token_of(POPULAR)
    fake.change("s", "a")
    assert items(next(watch)) == ("a", *POPULAR)
    assert fake.requests[0].request.page_size == 7
    assert fake.metadata[0]["x-recserv-priority"] == "high"


@pytest.mark.parametrize(
    "failure",
    [
        UNAVAILABLE,
        Failure(grpc.StatusCode.UNAVAILABLE, 1, "DRAINING"),
        Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, 1, "OVERLOADED"),
        Failure(grpc.StatusCode.CANCELLED),
        Failure(grpc.StatusCode.INTERNAL),
    ],
)
def test_a_stream_that_breaks_is_taken_up_from_the_last_answer(
    failure: Failure, fake: FakeWatches, client: RecommendationClient
) -> None:
    watch = client.watch_recommendations(RecommendQuery(session_id="s", consistency_token="c"))
    next(watch)
    fake.failures = [failure, failure]
    fake.end_all(failure)
    # So that the watch ends before the list changes.
    assert fake.closed.acquire(timeout=HANG_GUARD_S)
    fake.change("s", "a")
    assert items(next(watch)) == ("a", *POPULAR)
    assert [request.resume_token for request in fake.requests] == ["", *[token_of(POPULAR)] * 3]
    # It was for the first answer.
    assert [request.request.consistency_token for request in fake.requests] == ["c", "", "", ""]


def test_a_connection_that_is_lost_is_a_stream_that_broke(fake: FakeWatches) -> None:
    with TcpProxy("127.0.0.1", int(fake.address.rpartition(":")[2])) as proxy:
        with RecommendationClient(proxy.address, options=ONCE) as client:
            watch = client.watch_recommendations(QUERY)
            next(watch)
            proxy.drop_connections()
            fake.change("s", "a")
            assert items(next(watch)) == ("a", *POPULAR)
        assert proxy.counts().connections >= 2


def test_no_answer_comes_twice_even_if_the_server_repeats_it(fake: FakeWatches, client: RecommendationClient) -> None:
    watch = client.watch_recommendations(QUERY)
    next(watch)
    fake.repeats = True
    fake.end_all(UNAVAILABLE)
    eventually(lambda: fake.open == 0, "the stream has ended")
    with futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(next, watch)
        eventually(lambda: len(fake.requests) == 2, "it is taken up")
        fake.change("s", "a")
        assert items(answer.result(HANG_GUARD_S)) == ("a", *POPULAR)


def test_an_earlier_watch_is_gone_on_with(fake: FakeWatches, client: RecommendationClient) -> None:
    with client.watch_recommendations(QUERY) as earlier:
        next(earlier)
    fake.change("s", "a")
    with client.watch_recommendations(QUERY, resume_token=earlier.resume_token) as watch:
        assert items(next(watch)) == ("a", *POPULAR)
    with pytest.raises(InvalidInput):
        next(client.watch_recommendations(QUERY, resume_token="nonsense"))


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure(grpc.StatusCode.INVALID_ARGUMENT), InvalidInput),
        (Failure(grpc.StatusCode.UNIMPLEMENTED), NotImplementedYet),
        (Failure(grpc.StatusCode.PERMISSION_DENIED), CallFailed),
        # A message too large stays so, and so does a fault of the server's own.
        (Failure(grpc.StatusCode.RESOURCE_EXHAUSTED), Overloaded),
        (Failure(grpc.StatusCode.INTERNAL, reason="INTERNAL"), CallFailed),
    ],
)
def test_what_will_not_get_better_is_raised_once_and_ends_the_watch(
    failure: Failure, kind: type[Exception], fake: FakeWatches, client: RecommendationClient
) -> None:
    watch = client.watch_recommendations(QUERY)
    next(watch)
    fake.end_all(failure)
    with pytest.raises(kind) as raised:
        next(watch)
    assert isinstance(raised.value, CallFailed)
    assert list(watch) == []
    assert len(fake.requests) == 1


def test_who_breaks_out_of_the_loop_leaves_nothing_open(fake: FakeWatches, client: RecommendationClient) -> None:
    threads = threading.active_count()
    for _ in client.watch_recommendations(QUERY):
        break
    assert fake.closed.acquire(timeout=HANG_GUARD_S)
    client.close()
    # The fake's own stay.
    eventually(lambda: threading.active_count() <= threads + 1, "no thread of the client is left")


def test_close_ends_the_iteration_of_another_thread(fake: FakeWatches, client: RecommendationClient) -> None:
    watch = client.watch_recommendations(QUERY)
    with futures.ThreadPoolExecutor(1) as pool:
        told = pool.submit(list, watch)
        assert fake.opened.acquire(timeout=HANG_GUARD_S)
        watch.close()
        assert {items(answer) for answer in told.result(HANG_GUARD_S)} <= {POPULAR}
    assert fake.closed.acquire(timeout=HANG_GUARD_S)


def test_close_ends_a_pause(fake: FakeWatches, client: RecommendationClient) -> None:
    watch = client.watch_recommendations(QUERY)
    next(watch)
    with futures.ThreadPoolExecutor(1) as pool:
        told = pool.submit(list, watch)
        # Longer than anybody waits here.
        fake.end_all(Failure(grpc.StatusCode.UNAVAILABLE, retry_ms=3_600_000))
        eventually(lambda: watch._call is None, "it pauses")
        watch.close()
        assert told.result(HANG_GUARD_S) == []
    assert len(fake.requests) == 1


def test_a_client_that_is_closed_ends_its_watches(fake: FakeWatches, client: RecommendationClient) -> None:
    watch = client.watch_recommendations(QUERY)
    next(watch)
    client.close()
    with pytest.raises(CallFailed, match="CANCELLED"):
        next(watch)
    assert list(watch) == []


def _resumption(give_up_s: float | None = None) -> Resumption:
    return Resumption(QUERY, "", Backoff(1.0, 8.0), give_up_s)


def test_pauses_grow_and_are_never_shorter_than_the_server_asks_for() -> None:
    resumption, lost = _resumption(), CallFailed("UNAVAILABLE", "")
    for span_s in (1.0, 2.0, 4.0, 8.0, 8.0):
        resumption.begin(0.0)
        assert span_s / 2 <= resumption.pause_s(lost, 0.0) <= span_s
    assert resumption.pause_s(TurnedAway("RESOURCE_EXHAUSTED", "", retry_after_s=60.0), 0.0) == 60.0
    # One that was open for long was no failure, though nothing changed in that time.
    resumption.begin(0.0)
    assert resumption.pause_s(lost, LASTED_S) <= 1.0


def test_what_does_not_get_better_in_time_is_raised() -> None:
    resumption, lost = _resumption(give_up_s=60.0), CallFailed("UNAVAILABLE", "")
    resumption.begin(0.0)
    resumption.pause_s(lost, 0.0)
    resumption.begin(5.0)
    resumption.pause_s(lost, 45.0)
    resumption.begin(58.0)
    with pytest.raises(CallFailed):
        resumption.pause_s(lost, 61.0)


async def test_the_asyncio_client_watches_alike(fake: FakeWatches) -> None:
    async with AsyncRecommendationClient(fake.address, options=ONCE) as client:
        told = []
        async for answer in client.watch_recommendations(QUERY):
            told.append(items(answer))
            if len(told) == 2:
                break
            fake.end_all(UNAVAILABLE)
            fake.change("s", "a")
        assert told == [POPULAR, ("a", *POPULAR)]
        assert [request.resume_token for request in fake.requests] == ["", token_of(POPULAR)]
        await eventually_async(lambda: fake.open == 0, "nothing is left open")
        with pytest.raises(InvalidInput):
            await anext(client.watch_recommendations(RecommendQuery()))


async def test_a_task_that_waits_for_the_next_answer_can_be_cancelled_and_goes_on_where_it_was(
    fake: FakeWatches,
) -> None:
    async with AsyncRecommendationClient(fake.address, options=ONCE) as client:
        watch = client.watch_recommendations(QUERY)
        await anext(watch)
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        await eventually_async(lambda: fake.open == 0, "its call has ended")
        fake.change("s", "a")
        assert items(await anext(watch)) == ("a", *POPULAR)
        await watch.close()
        await eventually_async(lambda: fake.open == 0, "its call has ended")
    await eventually_async(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "no task is left")


async def test_close_ends_the_iteration_of_another_task(fake: FakeWatches) -> None:
    async with AsyncRecommendationClient(fake.address, options=ONCE) as client:
        watch = client.watch_recommendations(QUERY)
        await anext(watch)
        waiting = asyncio.ensure_future(anext(watch, None))
        await asyncio.sleep(0)
        await watch.close()
        assert await waiting is None


async def test_an_asyncio_client_that_is_closed_ends_its_watches(fake: FakeWatches) -> None:
    client = AsyncRecommendationClient(fake.address, options=ONCE)
    watch = client.watch_recommendations(QUERY)
    await anext(watch)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(CallFailed, match="CANCELLED"):
        await waiting
    assert await anext(watch, None) is None


def test_a_watch_that_is_let_go_of_needs_no_collector(fake: FakeWatches, client: RecommendationClient) -> None:
    gc.disable()
    try:
        watch: RecommendationWatch | None = client.watch_recommendations(QUERY)
        assert watch is not None
        next(watch)
        watch = None
        assert fake.closed.acquire(timeout=HANG_GUARD_S)
    finally:
        gc.enable()
