"""The parent: holds the port, keeps one generation of workers serving, replaces it when there is a new model.

start    port reserved -> first generation -> announced
reload   next generation beside the one that serves -> it serves -> the one before drains; a bad one is given up
stop     SIGTERM or SIGINT: every worker drains, at the same time; a second signal: everything ends at once
/metrics the workers' registries, asked for at each scrape and merged (recserv.metrics.merge)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine

import msgspec

from recserv.app.fleet.control import ControlServer, Drain, Message, Orders, Peer, Stats, WorkerHere
from recserv.app.fleet.generation import Generation, GenerationFailed
from recserv.app.fleet.port import reserved_port
from recserv.app.fleet.restart import TICK_S
from recserv.app.reload import ModelWatch, identity_of
from recserv.app.scrapes import scraped
from recserv.config import Settings, parse_address
from recserv.errors import RecservError
from recserv.metrics.merge import OF_ALL, MergedMetrics, ParentMetrics, snapshot

logger = logging.getLogger("recserv.app")

_SCRAPE_WAIT_S = 1.0
_REPLACE_S_MAX = 900.0
_LOST_RETRY_S = 1.0
_LOST_RETRY_S_MAX = 30.0


class Supervisor:
    def __init__(self, settings: Settings, address: str, announce: Callable[[str], None]):
        self._settings, self._address, self._announce = settings, address, announce
        self._control = ControlServer(self._heard, self._gone)
        self._numbers = 0
        self._generations: dict[int, Generation] = {}
        self._serving: Generation | None = None
        self._metrics = ParentMetrics()
        self._metrics.watch(lambda: sum(generation.ready for generation in self._generations.values()))
        self._merged = MergedMetrics(self._refresh)
        self._awaited: set[int] = set()
        self._all_in = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._drains: set[asyncio.Task[None]] = set()
        self._replacing = asyncio.Lock()

    async def run(self) -> None:
        """Until a signal. Raises UsageError if it cannot start, GenerationFailed if no worker can be kept alive."""
        self._on_signals()
        await self._control.start()
        identity = identity_of(self._settings.model)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._control.close)
            metrics_address = await stack.enter_async_context(scraped(self._merged, self._settings, self._answering))
            stack.push_async_callback(self._drain_all)
            first = self._next(whole=False)
            await self._unless_ended(first.start())
            if self._ended.done():
                return
            self._serving = first
            self._tell(first, metrics_address)
            watch = ModelWatch(self._settings.model, self._settings.model_watch_ms, identity, self._reload)
            self._loop.add_signal_handler(signal.SIGHUP, watch.ask)
            watching = asyncio.create_task(watch.run())
            stack.callback(watching.cancel)
            ticking = asyncio.create_task(self._tick())
            stack.callback(ticking.cancel)
            await self._ended
        logger.info("drained")

    def _tell(self, first: Generation, metrics_address: str) -> None:
        self._announce(f"recserv listening on {self._address}")
        if metrics_address:
            self._announce(f"recserv metrics on http://{metrics_address}/metrics")
        fields = {"address": self._address, "model": first.version, "workers": self._settings.workers}
        logger.info("serving", extra={"fields": fields})

    def _next(self, *, whole: bool) -> Generation:
        self._numbers += 1
        settings = msgspec.structs.replace(self._settings, listen=self._address)
        orders = Orders(settings=settings, control=self._control.name, generation=self._numbers, whole=whole)
        generation = Generation(orders, on_exit=self._metrics.worker_exit, on_lost=self._lost)
        self._generations[self._numbers] = generation
        return generation

    async def _unless_ended(self, starting: Coroutine[None, None, None]) -> None:
        """Waits for the start, or for the signal that makes it pointless."""
        task = asyncio.ensure_future(starting)
        await asyncio.wait((task, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        else:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for generation in self._generations.values():
                generation.tick()

    # Reload

    async def _reload(self, reason: str) -> None:
        """Replaces the generation that serves by one on the model as it is now; if that fails, the old one stays."""
        began = time.monotonic()
        try:
            generation = await self._replace()
        except RecservError as error:
            self._metrics.reload("refused")
            logger.error("model refused", extra={"fields": {"reason": reason, "problem": str(error)}})
            return
        self._metrics.reload("loaded")
        fields = {"reason": reason, "model": generation.version, "seconds": round(time.monotonic() - began, 3)}
        logger.info("model replaced", extra={"fields": fields})

    async def _replace(self) -> Generation:
        async with self._replacing:
            generation = self._next(whole=True)
            try:
                async with asyncio.timeout(_REPLACE_S_MAX):
                    await generation.start()
            except TimeoutError:
                self._let_go(generation)
                raise GenerationFailed(f"not ready after {_REPLACE_S_MAX:g} s") from None
            except BaseException:
                self._let_go(generation)
                raise
            before, self._serving = self._serving, generation
            if before is not None:
                self._let_go(before)
            return generation

    def _let_go(self, generation: Generation) -> None:
        async def drain() -> None:
            await generation.drain(self._settings.drain_ms / 1000)
            del self._generations[generation.number]

        task = asyncio.create_task(drain())
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)

    def _lost(self, generation: Generation) -> None:
        """No worker of this generation can be started any more; those that serve go on until others are there."""
        if generation is not self._serving or self._ended.done():
            return
        task = asyncio.create_task(self._recover(generation))
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)

    async def _recover(self, lost: Generation) -> None:
        delay_s = _LOST_RETRY_S
        while self._serving is lost and not self._ended.done():
            try:
                await self._replace()
            except RecservError as error:
                logger.error("no new workers", extra={"fields": {"problem": str(error)}})
                if not lost.ready and not self._ended.done():
                    self._ended.set_exception(GenerationFailed(f"no worker is left, and none can be started: {error}"))
                    return
                # Not a plain sleep: the drain waits for this task, and a signal must not wait for the next attempt.
                await asyncio.wait((self._ended,), timeout=delay_s)
                delay_s = min(2 * delay_s, _LOST_RETRY_S_MAX)

    # Messages

    def _heard(self, peer: Peer, message: Message) -> None:
        hello = peer.hello
        if isinstance(message, Stats) and isinstance(hello, WorkerHere):
            self._merged.update(hello.pid, f"{hello.generation}-{hello.slot}", message.families)
            self._await_no_more(hello.pid)
        generation = self._generations.get(hello.generation)
        if generation is not None:
            generation.heard(peer, message)
        elif isinstance(message, WorkerHere):
            # Forked at the very end of its generation.
            peer.send(Drain())

    def _gone(self, peer: Peer) -> None:
        if isinstance(peer.hello, WorkerHere):
            self._merged.retire(peer.hello.pid)
            self._await_no_more(peer.hello.pid)
        generation = self._generations.get(peer.hello.generation)
        if generation is not None:
            generation.gone(peer)

    def _answering(self) -> bool:
        """At least one worker serves, and the fleet is not ending."""
        return not self._ended.done() and any(generation.ready for generation in self._generations.values())

    # Metrics

    def _await_no_more(self, pid: int) -> None:
        self._awaited.discard(pid)
        if not self._awaited:
            self._all_in.set()

    def _refresh(self) -> None:
        """On the thread of a scrape: asks every worker for its metrics; one that is late is shown as it was."""
        asked = asyncio.run_coroutine_threadsafe(self._ask_all(), self._loop)
        with contextlib.suppress(TimeoutError):
            asked.result(_SCRAPE_WAIT_S + 1.0)
        self._merged.update(OF_ALL, "", snapshot(self._metrics.registry))
        self._merged.update(os.getpid(), "parent", snapshot(self._metrics.process))

    async def _ask_all(self) -> None:
        self._all_in.clear()
        self._awaited = {pid for generation in self._generations.values() for pid in generation.ask_stats()}
        if not self._awaited:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SCRAPE_WAIT_S):
                await self._all_in.wait()

    # The end

    def _on_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: signal.Signals) -> None:
        if not self._ended.done():
            logger.info("draining", extra={"fields": {"signal": number.name, "grace_ms": self._settings.drain_ms}})
            self._ended.set_result(None)
            return
        for generation in self._generations.values():
            generation.kill()
        # The end of the connection stands in for a Kill that was not sent yet. Then end as without a handler.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    async def _drain_all(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        grace_s = self._settings.drain_ms / 1000
        await asyncio.gather(*(generation.drain(grace_s) for generation in self._generations.values()))
        await asyncio.gather(*self._drains, return_exceptions=True)


def supervise(settings: Settings, announce: Callable[[str], None]) -> None:
    """`recserv serve` with several workers: returns after the drain. Raises what Supervisor.run raises."""
    host, port = parse_address(settings.listen)
    with reserved_port(host, port, shared=settings.share_port) as real:
        address = f"[{host}]:{real}" if ":" in host else f"{host}:{real}"

        async def run() -> None:
            await Supervisor(settings, address, announce).run()

        asyncio.run(run())
