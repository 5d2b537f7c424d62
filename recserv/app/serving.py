"""The serving process: makes every part, gives each what it needs, and owns their lifetimes.

    settings -> model (verified) and index -> store -> pipeline, ingestor, explanations -> metrics listener -> server
    SIGTERM  -> health NOT_SERVING -> calls in flight finish -> store closed -> port closed, last; bounded by grace.py

Wrong settings, a bad model, an address that is taken or a state store that can never serve end the start (UsageError,
exit code 2). A store that is unavailable does not: the server answers without stored state, says so, and tries again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from recserv.app.explanations import explanation_board
from recserv.app.grace import Grace
from recserv.app.live import LiveModel
from recserv.app.model import Model
from recserv.app.scrapes import scraped
from recserv.app.store import make_store
from recserv.config import Settings, parse_address
from recserv.logs import Logs, UserTag
from recserv.metrics import EventMetrics, Metrics, PipelineMetrics
from recserv.metrics.watches import WatchMetrics
from recserv.pipeline.degradation import Guards
from recserv.pipeline.engine import Engine
from recserv.pipeline.explanation_board import ExplanationBoard
from recserv.pipeline.guarded_store import GuardedStore, StoreGuard, StoreGuardSettings
from recserv.pipeline.ingest import EventIngestor, IngestHooks
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.watch import Outcome, Watches, WatchHooks
from recserv.pipeline.watch_runner import WatchRunner, WatchSettings
from recserv.resilience.metrics import ResilienceMetrics
from recserv.server.assembly import GrpcServer, ServerLimits
from recserv.server.ports import Backend
from recserv.stores.base import StateStore
from recserv.stores.embedded import MIB
from recserv.types import HOUR_MS, EventType, wall_clock_ms


class _IngestHooks(IngestHooks):
    def __init__(self, events: EventMetrics):
        self._events = events

    def on_events(self, event_type: EventType, outcome: str, count: int) -> None:
        self._events.outcome(event_type, outcome, count)

    def on_unknown_items(self, count: int) -> None:
        self._events.unknown_items(count)


class _WatchHooks(WatchHooks):
    def __init__(self, metrics: WatchMetrics):
        self._metrics = metrics

    def on_look(self, outcome: Outcome) -> None:
        self._metrics.count(outcome.value)

    def on_coalesced(self, changes: int) -> None:
        self._metrics.count("coalesced", changes)


@dataclass(frozen=True)
class Running:
    """`address` and `metrics_address` as HOST:PORT with the ports that were really taken; the latter empty if off, or
    if it was still waiting for another server to leave it.
    """

    address: str
    metrics_address: str
    metrics: Metrics
    server: GrpcServer
    live: LiveModel
    watches: Watches

    def swap(self, model: Model) -> None:
        """Calls that begin from now on are answered by this model, and open watches look again."""
        self.live.swap(model.engine)
        self.watches.all_changed()
        self.metrics.model(model.snapshot.version, model.snapshot.built_at_ms)


@dataclass(frozen=True)
class Parts:
    """What a server is made of, whatever model it serves."""

    settings: Settings
    store: StateStore
    board: ExplanationBoard
    metrics: Metrics
    resilience: ResilienceMetrics
    watches: Watches


@asynccontextmanager
async def running(
    settings: Settings, model: Model, logs: Logs | None = None, *, worker: str = "1-1", ends_process: bool = False
) -> AsyncIterator[Running]:
    """Serves inside the block; leaving it drains. Raises UsageError if it cannot start.

    `worker` names this process in the trailing metadata. `ends_process`: nothing comes after the block but the end of
    the process, which closes connections better than gRPC does (see GrpcServer.cut_off).
    """
    async with AsyncExitStack() as last, AsyncExitStack() as stack:
        metrics, grace = Metrics(), Grace(settings.drain_ms / 1000)
        metrics.model(model.snapshot.version, model.snapshot.built_at_ms)
        store = make_store(settings, metrics)
        stack.push_async_callback(grace.close, "state store", store.close, lambda: {"events": store.queued_events})
        await store.open()
        resilience = ResilienceMetrics(metrics.registry)
        board = await grace.enter(
            stack,
            "explanations",
            # Asked only once jobs run, when there is a live model.
            explanation_board(settings, metrics, resilience, known_id=lambda word: live.engine.items.row(word) >= 0),
        )
        watch_metrics = WatchMetrics(metrics.registry)
        watches = Watches(_WatchHooks(watch_metrics))
        watch_metrics.watch(lambda: len(watches))
        parts = Parts(settings, store, board, metrics, resilience, watches)
        live, server, ingestor = _make_server(parts, model.engine, worker)
        stack.callback(live.close)
        stack.push_async_callback(grace.close, "writes", ingestor.drain, lambda: {"calls": ingestor.writes})
        metrics.watch(
            in_flight=lambda: server.admission.in_flight,
            streams=lambda: server.admission.streams.in_use,
            log_lines_dropped=logs.dropped if logs else lambda: 0,
        )
        metrics_address = await grace.enter(
            stack, "metrics listener", scraped(metrics, settings, lambda: server.serving)
        )
        address = await server.start(*parse_address(settings.listen))
        if ends_process:
            stack.callback(server.cut_off)
        else:
            last.push_async_callback(grace.close, "connections", server.close)
        stack.push_async_callback(grace.close, "calls", partial(server.quiesce, settings.drain_ms / 1000))
        # Another model may take its place: then nothing must keep this one in memory.
        del model
        yield Running(address, metrics_address, metrics, server, live, watches)


def guard_settings(settings: Settings) -> StoreGuardSettings:
    """An attempt to write may take as long as the store's own timeout for writes."""
    usual = StoreGuardSettings()
    return replace(usual, append_timeout_s=max(usual.append_timeout_s, settings.redis_write_timeout_ms / 1000))


def _make_server(parts: Parts, engine: Engine, worker: str) -> tuple[LiveModel, GrpcServer, EventIngestor]:
    settings, store, metrics, resilience = parts.settings, parts.store, parts.metrics, parts.resilience
    chosen = PipelineSettings(
        exclude_purchased=settings.exclude_purchased,
        context_cache=settings.context_cache,
        context_cache_bytes=settings.cache_memory_mib * MIB // 2,
    )
    observer = PipelineMetrics(metrics)
    store_guard = StoreGuard(
        guard_settings(settings), on_transition=resilience.on_transition, on_retry=resilience.retried
    )
    resilience.watch(store_guard.reads, store_guard.writes)
    resilience.watch_attempts(store_guard.attempts)

    def make_pipeline(engine: Engine) -> RecommendationPipeline:
        # Each model has its own index and ranker: failures of the previous model's do not count against them.
        guards = Guards(on_transition=resilience.on_transition)
        resilience.watch(guards.index.breaker, guards.ranker.breaker)
        return RecommendationPipeline(
            engine,
            store,
            chosen,
            board=parts.board,
            clock=wall_clock_ms,
            observer=observer,
            guards=guards,
            store_guard=store_guard,
        )

    live = LiveModel(make_pipeline, engine)
    ingestor = EventIngestor(
        store,
        wall_clock_ms,
        retention_ms=round(settings.id_retention_hours * HOUR_MS),
        known_item=lambda item_id: live.engine.items.row(item_id) >= 0,
        hooks=_IngestHooks(EventMetrics(metrics)),
        store_guard=store_guard,
        watches=parts.watches,
    )
    # Every write to an embedded state is acknowledged by this process.
    shared = None if settings.state.startswith("embedded:") else GuardedStore(store, store_guard)
    watcher = WatchRunner(
        parts.watches,
        shared,
        WatchSettings(interval_s=settings.watch_interval_ms / 1000, probe_s=settings.watch_probe_ms / 1000),
    )
    limits = ServerLimits(
        default_deadline_ms=settings.default_deadline_ms,
        recommend_budget_ms=settings.recommend_budget_ms,
        max_in_flight=settings.max_in_flight,
        max_streams=settings.max_streams,
        max_watches=settings.max_watches,
        max_waiting_calls=settings.max_waiting_calls,
        max_calls_per_connection=settings.max_calls_per_connection,
        lame_duck_ms=settings.lame_duck_ms,
        share_port=settings.share_port or settings.workers > 1,
        connection_age_ms=settings.connection_age_ms,
        connection_age_grace_ms=settings.connection_age_grace_ms,
        worker=worker,
    )
    tag = UserTag(settings.log_salt)
    backend = Backend(live, ingestor, parts.board, watcher)
    server = GrpcServer(backend, metrics=metrics, limits=limits, clock=wall_clock_ms, tag=tag)
    return live, server, ingestor
