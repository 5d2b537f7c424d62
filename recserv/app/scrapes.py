"""The listener that Prometheus scrapes and probes ask, for as long as a server runs.

Where two servers may share the port that they serve on (`share_port`), the newer one finds the address for metrics
taken until the older one is gone: it serves all the same and takes the address over then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager

from recserv.config import Settings, parse_address
from recserv.errors import UsageError
from recserv.metrics.listener import HasRegistry, MetricsListener

logger = logging.getLogger("recserv.app")

RETRY_S = 1.0
_LOOP_ANSWERS_S = 1.0
"""A loop that takes longer cannot answer a call either."""


@asynccontextmanager
async def scraped(
    metrics: HasRegistry, settings: Settings, serving: Callable[[], bool], retry_s: float = RETRY_S
) -> AsyncIterator[str]:
    """Listens inside the block. The address with the real port; empty if it is off or has to wait. Raises UsageError
    for an address that is taken and not shared. `serving`, called on this loop, decides what /healthz answers.
    """
    healthy = asked_on(asyncio.get_running_loop(), serving)
    if settings.metrics_listen == "off":
        yield ""
        return
    host, port = parse_address(settings.metrics_listen)
    listeners: list[MetricsListener] = []

    async def wait_for_address() -> None:
        while not listeners:
            await asyncio.sleep(retry_s)
            try:
                listeners.append(MetricsListener(metrics, host, port, healthy))
            except UsageError:
                # Logged once, when the wait began.
                continue
        logger.info("metrics have their address", extra={"fields": {"address": listeners[0].address}})

    waiting: asyncio.Task[None] | None = None
    try:
        listeners.append(MetricsListener(metrics, host, port, healthy))
    except UsageError as error:
        if not settings.share_port:
            raise
        logger.warning("metrics wait for their address", extra={"fields": {"problem": str(error)}})
        waiting = asyncio.create_task(wait_for_address())
    try:
        yield listeners[0].address if listeners else ""
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        for listener in listeners:
            # Not on the loop: a scrape that is under way may wait for it.
            await asyncio.to_thread(listener.close)


def asked_on(
    loop: asyncio.AbstractEventLoop, serving: Callable[[], bool], wait_s: float = _LOOP_ANSWERS_S
) -> Callable[[], bool]:
    """`serving` for other threads to call: False also if the loop does not get to it in time, or is gone."""

    def healthy() -> bool:
        answer: Future[bool] = Future()
        try:
            loop.call_soon_threadsafe(lambda: answer.set_result(serving()))
            return answer.result(wait_s)
        except (TimeoutError, RuntimeError):
            return False

    return healthy
