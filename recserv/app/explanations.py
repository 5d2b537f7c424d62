"""Explanations as the settings want them: a board alone, or with a language model behind it.

[llm] -> keys, client, routes, ledger -> writer -> runner -> board
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from recserv.app.store import redis_timeouts
from recserv.config import Settings
from recserv.config_llm import LlmSettings
from recserv.llm import prompts
from recserv.llm.base import Writer
from recserv.llm.metrics import LlmMetrics
from recserv.metrics import Metrics
from recserv.pipeline.enrich_outbox import Outbox
from recserv.pipeline.enrich_runner import EnrichRunner
from recserv.pipeline.explanation_board import ExplanationBoard
from recserv.resilience.metrics import ResilienceMetrics
from recserv.stores.embedded import MIB
from recserv.stores.explanations_base import ExplanationStore
from recserv.stores.explanations_memory import MemoryExplanationStore
from recserv.stores.explanations_redis import RedisExplanationStore
from recserv.types import wall_clock_ms


@asynccontextmanager
async def explanation_board(
    settings: Settings,
    metrics: Metrics,
    resilience: ResilienceMetrics,
    *,
    known_id: Callable[[str], bool],
) -> AsyncIterator[ExplanationBoard]:
    """A board that works inside the block. `known_id`: whether a word is the id of a product."""
    async with AsyncExitStack() as stack:
        llm = settings.llm
        store = make_explanation_store(settings)
        await store.open()
        stack.push_async_callback(store.close)
        observer = LlmMetrics(metrics.registry)
        outbox = Outbox(store, wall_clock_ms, observer)
        outbox.start()
        stack.push_async_callback(outbox.close)
        runner = None
        if llm is not None:
            writer = _writer(llm, store, observer, known_id, resilience)
            stack.push_async_callback(writer.close)
            runner = EnrichRunner(llm, writer, store, outbox, wall_clock_ms, observer)
            runner.start()
            stack.push_async_callback(runner.close)
            observer.watch(queue=runner.queue.__len__, in_flight=lambda: runner.in_flight)
        yield ExplanationBoard(
            wall_clock_ms,
            settings=llm,
            runner=runner,
            store=store,
            outbox=outbox,
            observer=observer,
            prompt_version=prompts.VERSION,
            tokens_bytes_max=settings.cache_memory_mib * MIB // 2,
        )


class OwnedWriter(Writer, Protocol):
    async def close(self) -> None: ...


def _writer(
    llm: LlmSettings,
    store: ExplanationStore,
    observer: LlmMetrics,
    known_id: Callable[[str], bool],
    resilience: ResilienceMetrics,
) -> OwnedWriter:
    # An HTTP client takes a while to load, and most servers have no use for it.
    from recserv.llm.client import LlmClient
    from recserv.llm.keys import KeyRing
    from recserv.llm.routing import Routes
    from recserv.llm.writer import LlmWriter

    client = LlmClient(llm.base_url, KeyRing(llm.api_keys), in_flight_max=llm.in_flight_max)
    routes = Routes(llm, on_transition=resilience.on_transition)
    resilience.watch(*[model.breaker for model in routes.models.values()])
    return LlmWriter(llm, client, routes, store, observer, known_id=known_id)


def make_explanation_store(settings: Settings) -> ExplanationStore:
    cache_ttl_s = settings.llm.cache_ttl_s if settings.llm else 1.0
    token_ttl_s = settings.llm.token_ttl_s if settings.llm else 600.0
    if not settings.state.startswith("embedded:"):
        return RedisExplanationStore(
            settings.state, redis_timeouts(settings), cache_ttl_s=cache_ttl_s, token_ttl_s=token_ttl_s
        )
    return MemoryExplanationStore(wall_clock_ms, cache_ttl_s=cache_ttl_s, token_ttl_s=token_ttl_s)
