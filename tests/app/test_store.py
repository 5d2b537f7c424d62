"""The store that is opened when it can be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from recserv.app.store import RetriedStore, make_store
from recserv.config import Settings
from recserv.errors import StoreUnavailable, UsageError
from recserv.metrics import Metrics
from recserv.stores.base import AppendEvent, AppendResult, AppendStatus
from recserv.stores.embedded import EmbeddedStore
from recserv.types import Event, ShopperKey, ShopperState
from tests.patience import HANG_GUARD_S, eventually_async
from tests.redis_server import RedisServer
from tests.stores.support import make


class Flaky:
    """A store that opens at the given attempt."""

    token_key = b"kept with the state"

    def __init__(self, opens: Callable[[], bool]):
        self._opens, self.closed = opens, False

    async def open(self) -> None:
        if not self._opens():
            raise StoreUnavailable("disk full")

    async def close(self) -> None:
        self.closed = True

    async def append(self, tenant: str, events: Sequence[AppendEvent]) -> list[AppendResult]:
        return [AppendResult(AppendStatus.ACCEPTED, 1)] * len(events)

    async def read(self, tenant: str, keys: Sequence[ShopperKey]) -> list[ShopperState]:
        return [ShopperState(sequence=1)] * len(keys)


EVENT = AppendEvent(Event(event_id="e"), b"", 0, 0)


async def test_a_store_that_cannot_be_opened_is_unavailable_and_tried_again() -> None:
    able = asyncio.Event()
    made: list[Flaky] = []

    def make() -> Flaky:
        made.append(Flaky(able.is_set))
        return made[-1]

    store = RetriedStore(make, retry_s=0.001)
    await store.open()
    [result] = await store.append("t", [EVENT])
    assert (result.status, store.token_key) == (AppendStatus.UNAVAILABLE, b"")
    with pytest.raises(StoreUnavailable):
        await store.read("t", [ShopperKey("s")])
    able.set()

    async def accepted() -> bool:
        return (await store.append("t", [EVENT]))[0].status == AppendStatus.ACCEPTED

    await eventually_async(accepted)
    assert [state.sequence for state in await store.read("t", [ShopperKey("s")])] == [1]
    assert store.token_key == Flaky.token_key
    await store.close()
    assert made[-1].closed


async def test_a_store_that_never_opened_can_be_closed() -> None:
    store = RetriedStore(lambda: Flaky(lambda: False), retry_s=60.0)
    await store.open()
    await store.close()


async def test_a_store_that_can_never_open_ends_the_start_with_a_usage_error() -> None:
    class Hopeless(Flaky):
        async def open(self) -> None:
            raise UsageError("not a database")

    with pytest.raises(UsageError):
        await RetriedStore(lambda: Hopeless(lambda: False)).open()


async def test_a_store_that_raises_what_it_should_not_is_tried_again_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcomes = iter(
        [StoreUnavailable("disk full"), RuntimeError("nobody thought of this"), UsageError("damaged"), None]
    )

    class Surprising(Flaky):
        async def open(self) -> None:
            if (error := next(outcomes)) is not None:
                raise error

    store = RetriedStore(lambda: Surprising(lambda: True), retry_s=0.001)
    await store.open()

    async def accepted() -> bool:
        return (await store.append("t", [EVENT]))[0].status == AppendStatus.ACCEPTED

    await eventually_async(accepted)
    told = [str(record.__dict__["fields"]["problem"]) for record in caplog.records if record.levelname == "ERROR"]
    assert told == ["disk full", "RuntimeError: nobody thought of this", "damaged"]
    await store.close()


async def test_the_memory_of_an_embedded_state_is_what_the_setting_says(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = make_store(Settings(model="m", state=f"embedded:{path}", state_memory_mib=16), Metrics())
    await store.open()
    assert isinstance(store._store, EmbeddedStore)
    assert store._store._limits.memory_bytes_max == 16 * 1024 * 1024
    await store.close()


async def test_a_redis_that_is_away_is_unavailable_until_it_comes(redis_server: RedisServer) -> None:
    """Through the settings, with causes in the metrics."""
    metrics = Metrics()
    patient = {f"redis_{what}_timeout_ms": int(HANG_GUARD_S * 1000) for what in ("connect", "read", "write")}
    store = make_store(Settings(model="m", state=redis_server.url, **patient), metrics)  # type: ignore[arg-type]
    event = make("e1")
    redis_server.kill()
    await store.open()
    assert [result.status for result in await store.append("default", [event])] == [AppendStatus.UNAVAILABLE]
    redis_server.restart()

    async def available() -> bool:
        return (await store.append("default", [event]))[0].status != AppendStatus.UNAVAILABLE

    await eventually_async(available)
    redis_server.kill()
    with pytest.raises(StoreUnavailable):
        await store.read("default", [ShopperKey("s")])
    assert (await store.append("default", [event]))[0].status == AppendStatus.UNAVAILABLE
    sample = metrics.registry.get_sample_value
    assert sample("recserv_store_read_failures_total", {"cause": "refused"}) == 1
    assert sample("recserv_store_unavailable_events_total", {"cause": "refused"}) == 1
    await store.close()


async def test_a_redis_that_may_lose_events_is_refused_if_durability_is_required(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.config_set("appendfsync", "everysec")
    store = make_store(Settings(model="m", state=redis_server.url, require_durable=True), Metrics())
    with pytest.raises(UsageError, match="everysec"):
        await store.open()
    await store.close()


async def test_a_state_that_is_no_redis_url_ends_the_start() -> None:
    with pytest.raises(UsageError, match="brackets"):
        await make_store(Settings(model="m", state="redis://["), Metrics()).open()
