"""How many times a server asks Redis: one batch a request, fewer when requests come together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from recserv import v1 as pb
from recserv.stores.redis import RedisStore
from recserv.types import ShopperKey
from tests.patience import HANG_GUARD_S, eventually_async
from tests.proxy import TcpProxy
from tests.redis_server import RedisServer
from tests.server.harness import view
from tests.server.live import LiveApp
from tests.stores.redis_support import UNDISTURBED
from tests.stores.support import make, put

RECOMMEND = "/recserv.v1.RecommendationService/Recommend"
SEQUENTIAL = 1_000
AT_ONCE, ROUNDS = 32, 10
HELD_S = 2 * HANG_GUARD_S
"""Of a reply: until the test lets it go."""


@pytest.fixture
def app(proxy: TcpProxy, tiny_model: Path) -> Iterator[LiveApp]:
    # A busy machine must not make anybody give up: a request that does not ask cannot be counted.
    limits = (
        "recommend_budget",
        "default_deadline",
        *(f"redis_{what}_timeout" for what in ("connect", "read", "write")),
    )
    patient = {f"{what}_ms": round(HANG_GUARD_S * 1000) for what in limits}
    app = LiveApp(tiny_model, f"redis://{proxy.address}", **patient)
    yield app
    app.close()


def mget_calls(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"])


def request(number: int, user_id: str = "") -> pb.RecommendRequest:
    who = {"session_id": f"s{number % 20}", "user_id": user_id}
    return pb.RecommendRequest(page_size=5, priority=pb.PRIORITY_HIGH, **who)


def answered(raw: bytes) -> None:
    answer = pb.RecommendResponse.FromString(raw)
    assert answer.results
    assert not answer.degraded


@pytest.mark.parametrize(("user_id", "commands"), [pytest.param("", 1, marks=pytest.mark.slow), ("u", 2)])
def test_a_thousand_requests_one_after_the_other_are_a_thousand_batches(
    user_id: str, commands: int, app: LiveApp, proxy: TcpProxy, server: RedisServer
) -> None:
    """By Redis's own count of commands (one a partition) and by what passes on the wire (one write a request)."""
    for number in range(20):
        app.unary("IngestEvent", pb.IngestEventRequest(event=view(f"e{number}", session_id=f"s{number}")))
    answered(app.unary("Recommend", request(0, user_id)))
    asked, sent = mget_calls(server), proxy.counts().request_batches
    for number in range(SEQUENTIAL):
        answered(app.unary("Recommend", request(number, user_id)))
    assert mget_calls(server) - asked == SEQUENTIAL * commands
    assert proxy.counts().request_batches - sent == SEQUENTIAL


@pytest.mark.slow
@pytest.mark.parametrize(("latency_s", "share_max"), [(0.0, 0.9), (0.01, 0.25)])
def test_requests_at_once_share_their_batches(
    latency_s: float, share_max: float, app: LiveApp, proxy: TcpProxy, server: RedisServer
) -> None:
    """However fast Redis is, some come together (measured: 0.3 to 0.63); ten milliseconds away, nearly all."""
    proxy.set(latency_s=latency_s)
    recommend = app.channel.unary_unary(RECOMMEND)
    answered(app.unary("Recommend", request(0)))
    asked, sent = mget_calls(server), proxy.counts().request_batches
    for _ in range(ROUNDS):
        calls = [recommend.future(request(n).SerializeToString(), timeout=HANG_GUARD_S) for n in range(AT_ONCE)]
        for call in calls:
            # A machine that is busy with something else sheds load: some are answered without a look at Redis.
            if call.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                assert pb.RecommendResponse.FromString(call.result()).results
    batches, reads = proxy.counts().request_batches - sent, mget_calls(server) - asked
    print(
        f"{AT_ONCE} requests at once, {latency_s * 1000:.0f} ms away:"
        f" {batches / ROUNDS:.1f} batches for {reads / ROUNDS:.1f} reads"
    )
    assert ROUNDS * AT_ONCE / 2 <= reads <= ROUNDS * AT_ONCE
    assert batches <= reads * share_max


async def test_reads_of_one_turn_of_the_loop_are_one_batch(proxy: TcpProxy) -> None:
    store = RedisStore(f"redis://{proxy.address}", limits=UNDISTURBED)
    await store.open()
    await put(store, *[make(f"e{n}", session_id=f"s{n}") for n in range(100)])
    await store.read("default", [ShopperKey("s0")])
    sent = proxy.counts().request_batches
    await asyncio.gather(*[store.read("default", [ShopperKey(f"s{n}", "u")]) for n in range(100)])
    assert proxy.counts().request_batches - sent == 1
    await store.close()


async def test_a_read_never_joins_one_that_was_sent(proxy: TcpProxy, server: RedisServer) -> None:
    """The answer to the first is held back while an event arrives; the second read must know of it all the same."""
    store = RedisStore(f"redis://{proxy.address}", limits=UNDISTURBED)
    await store.open()
    await put(store, make("e0"))
    await store.read("default", [ShopperKey("session")])
    direct = RedisStore(server.url, limits=UNDISTURBED)
    await direct.open()
    asked = mget_calls(server)
    with proxy.broken(latency_s=HELD_S):
        first = asyncio.create_task(store.read("default", [ShopperKey("session")]))
        await eventually_async(lambda: mget_calls(server) > asked, "Redis has carried the first read out")
        await put(direct, make("e1"))
        second = asyncio.create_task(store.read("default", [ShopperKey("session")]))
        await asyncio.sleep(0)
        assert not first.done()
    assert [state.profile.event_count for [state] in await asyncio.gather(first, second)] == [1, 2]
    await direct.close()
    await store.close()


async def test_readers_that_give_up_neither_close_connections_nor_disturb_others(proxy: TcpProxy) -> None:
    store = RedisStore(f"redis://{proxy.address}", limits=UNDISTURBED)
    await store.open()
    await put(store, make("e0"))
    await asyncio.gather(*[store.read("default", [ShopperKey("session")]) for _ in range(4)])
    opened = proxy.counts().connections
    for _ in range(20):
        sent = proxy.counts().request_batches
        with proxy.broken(latency_s=HELD_S):
            readers = [asyncio.create_task(store.read("default", [ShopperKey("session")])) for _ in range(20)]
            await eventually_async(lambda sent=sent: proxy.counts().request_batches > sent, "they have asked")
            for reader in readers[::2]:
                reader.cancel()
            await asyncio.sleep(0)
        answers = await asyncio.gather(*readers, return_exceptions=True)
        assert [type(answer) for answer in answers] == [asyncio.CancelledError, list] * 10
    assert proxy.counts().connections == opened
    await store.close()
