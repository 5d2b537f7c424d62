"""The serving process: makes every part, gives each what it needs, and owns their lifetimes.

    settings -> model (verified) and index -> store -> pipeline, ingestor, explanations -> metrics listener -> server
    SIGTERM  -> health NOT_SERVING -> calls in flight finish -> port closed -> store closed, last

What is wrong with the settings, the model or an address ends the start (UsageError, exit code 2). What is wrong with
the state store does not: the server then answers without stored state, says so, and tries the store again.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from recserv.config import Settings, parse_address
from recserv.errors import IndexUnavailable, ModelError, StoreUnavailable, UsageError
from recserv.index.hnsw import HnswIndex
from recserv.logs import Logs, UserTag
from recserv.metrics import EventMetrics, Metrics, MetricsListener, PipelineMetrics
from recserv.model.snapshot import ModelSnapshot, load_popular, load_snapshot
from recserv.pipeline.engine import Engine
from recserv.pipeline.enrich import ExplanationBoard
from recserv.pipeline.ingest import EventIngestor, IngestHooks
from recserv.pipeline.pipeline import RecommendationPipeline, wall_clock_ms
from recserv.pipeline.settings import PipelineSettings
from recserv.server.assembly import GrpcServer, ServerLimits
from recserv.stores.base import AppendEvent, AppendResult, AppendStatus, StateStore
from recserv.stores.embedded import EmbeddedStore
from recserv.stores.hooks import StoreHooks
from recserv.types import EventType, ShopperKey, ShopperState

logger = logging.getLogger("recserv.app")

_HOUR_MS = 3600 * 1000
_STORE_RETRY_S = 5.0


@dataclass(frozen=True)
class Model:
    snapshot: ModelSnapshot
    index: HnswIndex | None


def load_model(settings: Settings) -> Model:
    """The verified model, its index if there is one. Raises UsageError naming the directory, the file and the fault."""
    try:
        snapshot = load_snapshot(settings.model)
    except ModelError as error:
        if settings.on_bad_model != "popular":
            raise UsageError(f"model {settings.model}: {error}") from error
        logger.error("bad model, serving its popular items only", extra={"fields": {"problem": str(error)}})
        return Model(_popular(settings.model), None)
    return Model(snapshot, _open_index(snapshot))


def _popular(path: str) -> ModelSnapshot:
    try:
        return load_popular(path)
    except ModelError as error:
        raise UsageError(f"model {path}: not even its popular items can be read: {error}") from error


def _open_index(snapshot: ModelSnapshot) -> HnswIndex | None:
    if snapshot.index_path is None:
        logger.warning("the model has no vector index; the other sources answer")
        return None
    try:
        with snapshot.verified_index() as path:
            return HnswIndex.load(path, dimensions=snapshot.dimensions)
    except (ModelError, IndexUnavailable) as error:
        logger.warning("the vector index cannot be opened", extra={"fields": {"problem": str(error)}})
        return None


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


class _IngestHooks(IngestHooks):
    def __init__(self, events: EventMetrics):
        self._events = events

    def on_event(self, event_type: EventType, outcome: str) -> None:
        self._events.outcome(event_type, outcome)

    def on_unknown_item(self, event_type: EventType) -> None:
        self._events.unknown_item()


class RetriedStore:
    """A StateStore that is opened when it can be: until then reads and appends are unavailable, and it is tried again.

    `make` gives a new store for each attempt. `open` raises UsageError for what can never work, nothing else.
    """

    def __init__(self, make: Callable[[], StateStore], retry_s: float = _STORE_RETRY_S):
        self._make, self._retry_s = make, retry_s
        self._store: StateStore | None = None
        self._retrying: asyncio.Task[None] | None = None

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


def make_store(settings: Settings, metrics: Metrics) -> RetriedStore:
    path = settings.state.removeprefix("embedded:")
    return RetriedStore(
        lambda: EmbeddedStore(
            path,
            clock=wall_clock_ms,
            retention_ms=round(settings.id_retention_hours * _HOUR_MS),
            log_retention_ms=round(settings.log_retention_hours * _HOUR_MS),
            hooks=_StoreHooks(metrics),
        )
    )


@dataclass(frozen=True)
class Running:
    """`address` and `metrics_address` as HOST:PORT with the ports that were really taken; the latter empty if off."""

    address: str
    metrics_address: str
    metrics: Metrics
    server: GrpcServer


@asynccontextmanager
async def running(settings: Settings, model: Model, logs: Logs | None = None) -> AsyncIterator[Running]:
    """Serves inside the block; leaving it drains. Raises UsageError if it cannot start."""
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        metrics.model(model.snapshot.version, model.snapshot.built_at_ms)
        engine = Engine(model.snapshot, model.index)
        stack.callback(engine.close)
        store = make_store(settings, metrics)
        stack.push_async_callback(store.close)
        await store.open()
        server, ingestor = _make_server(settings, engine, store, metrics)
        stack.push_async_callback(ingestor.drain)
        metrics.watch(
            in_flight=lambda: server.admission.calls.in_use,
            streams=lambda: server.admission.streams.in_use,
            log_lines_dropped=logs.dropped if logs else lambda: 0,
        )
        metrics_address = ""
        if settings.metrics_listen != "off":
            listener = MetricsListener(metrics, *parse_address(settings.metrics_listen))
            stack.callback(listener.close)
            metrics_address = listener.address
        address = await server.start(*parse_address(settings.listen))
        stack.push_async_callback(server.drain, settings.drain_ms / 1000)
        yield Running(address, metrics_address, metrics, server)


def _make_server(
    settings: Settings, engine: Engine, store: StateStore, metrics: Metrics
) -> tuple[GrpcServer, EventIngestor]:
    items, board = engine.snapshot.items, ExplanationBoard()
    pipeline = RecommendationPipeline(
        engine,
        store,
        PipelineSettings(exclude_purchased=settings.exclude_purchased, context_cache=settings.context_cache),
        board=board,
        clock=wall_clock_ms,
        observer=PipelineMetrics(metrics),
    )
    ingestor = EventIngestor(
        store,
        wall_clock_ms,
        retention_ms=round(settings.id_retention_hours * _HOUR_MS),
        known_item=lambda item_id: items.position(item_id) >= 0,
        hooks=_IngestHooks(EventMetrics(metrics)),
    )
    limits = ServerLimits(
        default_deadline_ms=settings.default_deadline_ms,
        max_in_flight=settings.max_in_flight,
        max_streams=settings.max_streams,
    )
    tag = UserTag(settings.log_salt)
    server = GrpcServer(pipeline, ingestor, board, metrics=metrics, limits=limits, clock=wall_clock_ms, tag=tag)
    return server, ingestor


def check_supported(settings: Settings) -> None:
    """Raises UsageError for what the settings may say and this version cannot do."""
    if settings.workers > 1 and settings.state.startswith("embedded:"):
        raise UsageError(
            f"--workers {settings.workers} needs a state that processes can share (--state redis://...): an embedded"
            " state belongs to one process"
        )
    if settings.workers > 1:
        raise UsageError("--workers above 1 is not built yet; run one worker with an embedded state")
    if not settings.state.startswith("embedded:"):
        raise UsageError("--state redis:// is not built yet; use --state embedded:PATH")


async def _serve(settings: Settings, model: Model, logs: Logs, announce: Callable[[str], None]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def on_signal(name: str) -> None:
        logger.info("draining", extra={"fields": {"signal": name, "grace_ms": settings.drain_ms}})
        stop.set()
        # A second signal ends the process at once.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    async with running(settings, model, logs) as app:
        # The model stays: the collector need not look at it ever again.
        gc.collect()
        gc.freeze()
        announce(f"recserv listening on {app.address}")
        if app.metrics_address:
            announce(f"recserv metrics on http://{app.metrics_address}/metrics")
        fields = {"address": app.address, "model": model.snapshot.version, "items": model.snapshot.item_count}
        logger.info("serving", extra={"fields": fields})
        await stop.wait()
    logger.info("drained")


def serve(settings: Settings, announce: Callable[[str], None]) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code. `announce` gets the lines that scripts wait for.

    Raises UsageError if the server cannot start.
    """
    check_supported(settings)
    logs = Logs(settings.log_level)
    try:
        model = load_model(settings)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings, model, logs, announce))
    finally:
        logs.close()
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
