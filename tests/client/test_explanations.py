"""Explanations through the clients: read at once, and watched over a connection that breaks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from recserv.client import AsyncRecommendationClient, CallFailed, ClientOptions, RecommendationClient
from recserv.errors import NotFound
from recserv.types import ExplainMode, Explanation, ExplanationState, RecommendQuery
from tests.patience import HANG_GUARD_S, eventually
from tests.proxy import TcpProxy
from tests.server.harness import Service

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess

BOTH = [Explanation("a", "because", ExplanationState.READY), Explanation("b", "so", ExplanationState.TEMPLATE)]
QUICK = ClientOptions(timeout_s=HANG_GUARD_S, backoff_s=0.01, backoff_s_max=0.05)


@pytest.fixture
def service() -> Iterator[Service]:
    with closing(Service()) as started:
        yield started


@pytest.fixture
def proxy(service: Service) -> Iterator[TcpProxy]:
    with TcpProxy("127.0.0.1", int(service.address.rpartition(":")[2])) as started:
        yield started


def test_what_is_ready_is_read_at_once(service: Service) -> None:
    with RecommendationClient(service.address, options=QUICK) as client:
        ready = client.explanations("ready")
        assert list(ready.explanations) == BOTH
        assert ready.state is ExplanationState.READY
        assert client.explanations("pending").state is ExplanationState.PENDING


def test_a_token_that_is_unknown_is_not_found(service: Service) -> None:
    with RecommendationClient(service.address, options=QUICK) as client:
        with pytest.raises(NotFound):
            client.explanations("nobody")
        with pytest.raises(NotFound):
            list(client.watch_explanations("nobody"))


def test_a_watch_that_breaks_goes_on_and_tells_nothing_twice(service: Service, proxy: TcpProxy) -> None:
    service.board.hold = threading.Event()
    with RecommendationClient(proxy.address, options=QUICK) as client:
        watch = client.watch_explanations("ready")
        assert next(watch) == BOTH[0]
        proxy.drop_connections()
        service.board.hold.set()
        assert list(watch) == BOTH[1:]
    assert proxy.counts().connections == 2


def test_a_watch_has_an_end_too(service: Service, proxy: TcpProxy) -> None:
    with (
        RecommendationClient(proxy.address, options=QUICK) as client,
        proxy.broken(blackhole=True),
        pytest.raises(CallFailed),
    ):
        list(client.watch_explanations("ready", timeout_s=0.3))


def test_closing_a_watch_ends_the_call_on_the_server(service: Service) -> None:
    service.board.hold = threading.Event()
    with RecommendationClient(service.address, options=QUICK) as client:
        watch = client.watch_explanations("ready")
        next(watch)
        watch.close()
        eventually(lambda: not service.server.admission.streams.in_use, "the server's side of the watch has ended")


async def test_the_asyncio_client_watches_alike(recserv_server: ServerProcess) -> None:
    host, _, port = recserv_server.target.rpartition(":")
    with TcpProxy(host, int(port)) as proxy:
        async with AsyncRecommendationClient(proxy.address, options=QUICK) as client:
            answer = await client.recommend(RecommendQuery(session_id="s", explain=ExplainMode.LLM_ASYNC))
            proxy.drop_connections()
            told = [explanation async for explanation in client.watch_explanations(answer.explanation_token)]
            assert [one.item_id for one in told] == [result.item_id for result in answer.results]
            at_once = await client.explanations(answer.explanation_token)
            assert list(at_once.explanations) == told
            with pytest.raises(NotFound):
                await client.explanations("nobody")
