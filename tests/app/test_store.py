"""The state store that the settings name."""

from __future__ import annotations

from pathlib import Path

import pytest

from recserv.app.store import make_store
from recserv.config import Settings
from recserv.errors import StoreUnavailable, UsageError
from recserv.metrics import Metrics
from recserv.stores.base import AppendStatus
from recserv.stores.embedded import EmbeddedStore
from recserv.types import ShopperKey
from tests.patience import HANG_GUARD_S, eventually_async
from tests.redis_server import RedisServer
from tests.stores.support import make


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
