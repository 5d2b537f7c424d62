"""The state store that the settings name, opened when it can be: a store that is unavailable does not end the start."""

from __future__ import annotations

from recserv.config import Settings
from recserv.metrics import Metrics
from recserv.stores.base import StateStore
from recserv.stores.embedded import MIB, EmbeddedLimits, EmbeddedStore
from recserv.stores.hooks import StoreHooks
from recserv.stores.redis import RedisLimits, RedisStore
from recserv.stores.redis_router import RedisTimeouts
from recserv.stores.retried import RetriedStore
from recserv.types import HOUR_MS, wall_clock_ms

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


def redis_timeouts(settings: Settings) -> RedisTimeouts:
    return RedisTimeouts(
        connect_s=settings.redis_connect_timeout_ms / 1000,
        read_s=settings.redis_read_timeout_ms / 1000,
        write_s=settings.redis_write_timeout_ms / 1000,
    )


def make_store(settings: Settings, metrics: Metrics) -> RetriedStore:
    """Raises nothing: the store that the settings name is looked at only when it is opened."""
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
