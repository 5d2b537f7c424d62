"""`recserv serve` in one process: one server, its signals, and reloads in place.

SIGTERM, SIGINT   drain; the second one ends the process at once
SIGHUP            load the model anew, on a thread, and swap it in
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from recserv.app.fleet.port import reserved_port
from recserv.app.model import Model, load_model, load_whole_model
from recserv.app.reload import Identity, ModelWatch, identity_of
from recserv.app.serving import Running, running
from recserv.config import Settings, parse_address
from recserv.errors import UsageError
from recserv.event_loop import loop_factory
from recserv.logs import Logs
from recserv.metrics.listener import address_refused

logger = logging.getLogger("recserv.app")

_SWITCH_INTERVAL_S = 0.0005

Loaded = tuple[Identity | None, Model]
"""A model, and the identity of its directory just before it was loaded."""


def serve_alone(settings: Settings, logs: Logs, announce: Callable[[str], None], leave: Callable[[], NoReturn]) -> None:
    """Serves, and ends the process by `leave`. Raises UsageError if it cannot start."""
    check_addresses(settings)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(settings, (identity_of(settings.model), load_model(settings)), logs, announce))
        # Before the loop ends: the gRPC server is left open, and the end of the process closes its connections.
        leave()


def check_addresses(settings: Settings) -> None:
    """Raises UsageError for an address that is taken, before anything else is touched: a start that fails later leaves
    behind the state file that it made.
    """
    with reserved_port(*parse_address(settings.listen), shared=settings.share_port):
        pass
    # With a shared port, the address for metrics is waited for.
    if settings.metrics_listen == "off" or settings.share_port:
        return
    host, port = parse_address(settings.metrics_listen)
    try:
        with reserved_port(host, port, shared=False):
            pass
    except UsageError as error:
        raise address_refused(host, port, "the address is in use, not of this machine, or not permitted") from error


async def _serve(settings: Settings, loaded: Loaded, logs: Logs, announce: Callable[[str], None]) -> None:
    stop = _stop_on_signals(settings)
    identity, model = loaded
    async with running(settings, model, logs, ends_process=True) as app:
        # The model stays: the collector need not look at it ever again.
        gc.collect()
        gc.freeze()
        announce(f"recserv listening on {app.address}")
        if app.metrics_address:
            announce(f"recserv metrics on http://{app.metrics_address}/metrics")
        fields = {"address": app.address, "model": model.snapshot.version, "items": model.snapshot.item_count}
        logger.info("serving", extra={"fields": fields})
        del loaded, model
        watch = ModelWatch(settings.model, settings.model_watch_ms, identity, partial(reload_in_place, settings, app))
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, watch.ask)
        watching = asyncio.create_task(watch.run())
        await stop.wait()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    logger.info("drained")


def _stop_on_signals(settings: Settings) -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; the second signal ends the process at once."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def on_signal(name: str) -> None:
        logger.info("draining", extra={"fields": {"signal": name, "grace_ms": settings.drain_ms}})
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    return stop


async def reload_in_place(settings: Settings, app: Running, reason: str) -> None:
    """Loads the model anew beside the one that serves and swaps them; a bad one is refused and the old one stays."""
    began = time.monotonic()
    try:
        model = await asyncio.to_thread(_load_politely, settings)
    except UsageError as error:
        app.metrics.reload("refused")
        logger.error("model refused", extra={"fields": {"reason": reason, "problem": str(error)}})
        return
    version, before = model.snapshot.version, app.live.engine.version
    if version != before:
        app.swap(model)
    app.metrics.reload("unchanged" if version == before else "loaded")
    fields = {"reason": reason, "model": version, "before": before, "seconds": round(time.monotonic() - began, 3)}
    logger.info("model loaded", extra={"fields": fields})


def _load_politely(settings: Settings) -> Model:
    # The loop has to get the GIL back every time it wakes up, and waits one such interval for it.
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        return load_whole_model(settings)
    finally:
        sys.setswitchinterval(before)
