"""The state store that the settings name, opened when it can be: what is wrong with it never ends the start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from recserv.config import Settings
from recserv.errors import StoreUnavailable, UsageError
from recserv.metrics import Metrics
from recserv.stores.base import AppendEvent, AppendResult, AppendStatus, StateStore, StateVersion
from recserv.stores.embedded import MIB, EmbeddedLimits, EmbeddedStore
from recserv.stores.hooks import StoreHooks
from recserv.stores.redis import RedisLimits, RedisStore
from recserv.stores.redis_router import RedisTimeouts
from recserv.types import HOUR_MS, ShopperKey, ShopperState, wall_clock_ms

logger = logging.getLogger("recserv.app")

_STORE_RETRY_S = 5.0
_REDIS_RETRY_S = 0.5


class _StoreHooks(StoreHooks):
    def __init__(self, metrics: Metrics):
        self._metrics = metrics

    def on_commit(self, events: int, seconds: float) -> None:
        self._metrics.commit(events, seconds)

    def on_unavailable(self, events: int, cause: str) -> None:
        self._metrics.store_unavailable(events, cause)

    def on_sessions_evicted(self, sessions: int) -> None:
        self._metrics.sessions_evicted(sessions)

    def on_swept(self, ids: int, log_rows: int, profiles: int) -> None:
        self._metrics.swept(ids=ids, log_rows=log_rows, profiles=profiles)

    def on_read_failed(self, cause: str) -> None:
        self._metrics.store_read_failed(cause)

    def on_undecodable(self, kind: str, records: int) -> None:
        self._metrics.store_undecodable(kind, records)


class RetriedStore:
    """A StateStore that is opened when it can be: until then reads and appends are unavailable, and it is tried again.

    `make` gives a new store for each attempt. `open` raises UsageError for what can never work, nothing else.
    """

    def __init__(self, make: Callable[[], StateStore], retry_s: float = _STORE_RETRY_S):
        self._make, self._retry_s = make, retry_s
        self._store: StateStore | None = None
        self._retrying: asyncio.Task[None] | None = None

    @property
    def queued_events(self) -> int:
        """Taken and neither written nor given up."""
        return getattr(self._store, "queued_events", 0)

    @property
    def token_key(self) -> bytes:
        return b"" if self._store is None else self._store.token_key

    async def open(self) -> None:
        if not await self._try():
            self._retrying = asyncio.create_task(self._retry())

    async def _try(self) -> bool:
        store = self._make()
        try:
            await store.open()
        except StoreUnavailable as error:
            logger.error("the state store cannot be opened", extra={"fields": {"problem": str(error)}})
            return False
        self._store = store
        return True

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(self._retry_s)
            try:
                if await self._try():
                    logger.info("the state store is open")
                    return
            except UsageError as error:
                logger.error("the state store cannot be opened", extra={"fields": {"problem": str(error)}})
            except Exception as error:
                # Whatever it is, to give up in silence would be worse.
                problem = f"{type(error).__name__}: {error}"
                logger.exception("the state store cannot be opened", extra={"fields": {"problem": problem}})

    async def close(self) -> None:
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.gather(self._retrying, return_exceptions=True)
        if self._store is not None:
            await self._store.close()

    async def append(self, tenant: str, events: Sequence[AppendEvent]) -> list[AppendResult]:
        if self._store is None:
            return [AppendResult(AppendStatus.UNAVAILABLE, 0, "the state store is not open")] * len(events)
        return await self._store.append(tenant, events)

    async def read(self, tenant: str, keys: Sequence[ShopperKey]) -> list[ShopperState]:
        if self._store is None:
            raise StoreUnavailable("the state store is not open")
        return await self._store.read(tenant, keys)

    async def versions(self, tenant: str, keys: Sequence[ShopperKey]) -> list[StateVersion]:
        if self._store is None:
            raise StoreUnavailable("the state store is not open")
        return await self._store.versions(tenant, keys)


def redis_timeouts(settings: Settings) -> RedisTimeouts:
    return RedisTimeouts(
        connect_s=settings.redis_connect_timeout_ms / 1000,
        read_s=settings.redis_read_timeout_ms / 1000,
        write_s=settings.redis_write_timeout_ms / 1000,
    )


def make_store(settings: Settings, metrics: Metrics) -> RetriedStore:
    """Raises nothing: what the settings name is looked at when the store is opened."""
    hooks = _StoreHooks(metrics)
    retention_ms = round(settings.id_retention_hours * HOUR_MS)
    log_retention_ms = round(settings.log_retention_hours * HOUR_MS)

    def embedded() -> StateStore:
        return EmbeddedStore(
            settings.state.removeprefix("embedded:"),
            clock=wall_clock_ms,
            retention_ms=retention_ms,
            log_retention_ms=log_retention_ms,
            limits=EmbeddedLimits(memory_bytes_max=settings.state_memory_mib * MIB),
            hooks=hooks,
        )

    def redis() -> StateStore:
        return RedisStore(
            settings.state,
            clock=wall_clock_ms,
            retention_ms=retention_ms,
            log_retention_ms=log_retention_ms,
            limits=RedisLimits(timeouts=redis_timeouts(settings)),
            require_durable=settings.require_durable,
            hooks=hooks,
        )

    if settings.state.startswith("embedded:"):
        return RetriedStore(embedded)
    return RetriedStore(redis, _REDIS_RETRY_S)
