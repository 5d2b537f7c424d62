"""One generation: a loader and the workers that it forked, all on one model.

start   -> loader runs, loads -> a worker in every slot -> all of them serve
then    a worker that ends is started again (restart.py)
drain   -> every worker drains -> those that do not in time are killed -> the loader ends
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable

import msgspec

from recserv.app.fleet.control import (
    AskStats,
    Drain,
    Fork,
    Kill,
    LoaderHere,
    LogLine,
    Message,
    ModelLoaded,
    ModelRefused,
    Orders,
    Peer,
    WorkerExited,
    WorkerForked,
    WorkerHere,
    WorkerReady,
    WorkerRefused,
)
from recserv.app.fleet.restart import SILENT_TICKS_MAX, Slot, all_hopeless
from recserv.errors import RecservError, UsageError

logger = logging.getLogger("recserv.app")

_KILL_AFTER_S = 3.0


class GenerationFailed(RecservError):
    """Its workers, or the loader of their model, cannot be kept alive."""

    reason = "WORKERS_FAILED"


class Generation:
    """`on_exit` gets the cause of every unrequested end, `on_lost` is called when no worker can be started any more."""

    def __init__(self, orders: Orders, *, on_exit: Callable[[str], None], on_lost: Callable[[Generation], None]):
        self.number = orders.generation
        self.version = ""
        self._orders = orders
        self._on_exit, self._on_lost = on_exit, on_lost
        self._slots = {number: Slot(number) for number in range(1, orders.settings.workers + 1)}
        self._peers: dict[int, Peer] = {}
        """Connected workers by process id."""
        self._silent: dict[int, int] = {}
        """Ticks since a worker's last message."""
        self._loader: Peer | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._draining = False
        self._empty = asyncio.Event()

    @property
    def ready(self) -> int:
        return sum(slot.ready for slot in self._slots.values())

    async def start(self) -> None:
        """Returns once every worker serves. Raises UsageError for a model or setting that cannot be served, and
        GenerationFailed. A generation that failed is to be drained like any other.
        """
        await self._launch()
        await self._started

    async def _launch(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-P", "-m", "recserv.app.fleet.loader"],
            stdin=asyncio.subprocess.PIPE,
            # What the parent prints there is for scripts.
            stdout=asyncio.subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
                # The number of workers is the number of threads wanted.
                "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1"),
            },
        )
        self._watching = asyncio.create_task(self._watch(self._process))

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Gives the loader its orders and waits for its end."""
        assert process.stdin is not None
        # A loader that ends before it has read its orders is reported below.
        with contextlib.suppress(ConnectionError):
            process.stdin.write(msgspec.json.encode(self._orders))
            await process.stdin.drain()
            process.stdin.close()
        code = await process.wait()
        if self._draining:
            return
        problem = GenerationFailed(f"the process that loads the model ended with {cause_of(code)}")
        if self._started.done():
            logger.error(str(problem), extra={"fields": {"generation": self.number}})
            self._on_lost(self)
        else:
            self._started.set_exception(problem)

    def heard(self, peer: Peer, message: Message) -> None:
        """A message of its loader or of one of its workers."""
        self._silent[peer.hello.pid] = 0
        match message:
            case LoaderHere():
                self._loader = peer
            case ModelLoaded():
                self._loaded(message)
            case ModelRefused() | WorkerRefused():
                self._fail(UsageError(message.problem))
            case WorkerForked():
                self._slots[message.slot].forked(message.pid)
            case WorkerHere():
                self._peers[message.pid] = peer
                if self._draining:
                    peer.send(Drain())
            case WorkerReady():
                self._ready(peer)
            case WorkerExited():
                self._exited(message)
            case LogLine():
                logger.log(message.level, message.text, extra={"fields": message.fields})

    def tick(self) -> None:
        """Called every TICK_S: a worker that said nothing for SILENT_TICKS_MAX ticks hangs, and is killed. Silence is
        counted in ticks, so that not all workers seem late after the machine was asleep.
        """
        for pid, peer in self._peers.items():
            self._silent[pid] = self._silent.get(pid, 0) + 1
            if self._silent[pid] > SILENT_TICKS_MAX and self._loader is not None:
                assert isinstance(peer.hello, WorkerHere)
                name = f"{self.number}-{peer.hello.slot}"
                logger.error("a worker hangs and is killed", extra={"fields": {"worker": name}})
                self._loader.send(Kill(peer.hello.slot))

    def gone(self, peer: Peer) -> None:
        """A connection ended."""
        if isinstance(peer.hello, WorkerHere):
            self._peers.pop(peer.hello.pid, None)
            self._silent.pop(peer.hello.pid, None)
            if self._loader is None:
                # Nobody else will report its end.
                self._slots[peer.hello.slot].ended(time.monotonic(), as_told=True)
            self._look_if_empty()
        elif peer is self._loader:
            self._loader = None

    def ask_stats(self) -> list[int]:
        """Returns the process ids of those who were asked."""
        for peer in self._peers.values():
            peer.send(AskStats())
        return list(self._peers)

    async def drain(self, grace_s: float) -> None:
        """Returns once all its processes are gone."""
        self._draining = True
        for timer in self._timers.values():
            timer.cancel()
        if not self._started.done():
            self._started.cancel()
        for peer in self._peers.values():
            peer.send(Drain())
        self._look_if_empty()
        try:
            async with asyncio.timeout(grace_s + _KILL_AFTER_S):
                await self._empty.wait()
        except TimeoutError:
            logger.warning("workers are killed", extra={"fields": {"generation": self.number}})
            self.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_KILL_AFTER_S):
                    await self._empty.wait()
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()

    def kill(self) -> None:
        """At once."""
        self._draining = True
        for pid in self._peers:
            # Connected, so alive, so the id is still that of the same process.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._loader is not None:
            self._loader.send(Kill(0))

    def _loaded(self, message: ModelLoaded) -> None:
        self.version = message.version
        fields = {
            "model": message.version,
            "items": message.items,
            "seconds": round(message.seconds, 3),
            "generation": self.number,
        }
        logger.info("model loaded", extra={"fields": fields})
        for slot in self._slots:
            self._fork(slot)

    def _fork(self, slot: int) -> None:
        if self._loader is not None and not self._draining:
            self._loader.send(Fork(slot))

    def _ready(self, peer: Peer) -> None:
        assert isinstance(peer.hello, WorkerHere)
        self._slots[peer.hello.slot].served(time.monotonic())
        if self.ready == len(self._slots) and not self._started.done():
            self._started.set_result(None)

    def _exited(self, message: WorkerExited) -> None:
        slot = self._slots[message.slot]
        delay_s = slot.ended(time.monotonic(), as_told=message.code == 0)
        if self._draining:
            self._look_if_empty()
            return
        cause = cause_of(message.code)
        self._on_exit(cause)
        fields = {"worker": f"{self.number}-{slot.number}", "cause": cause, "restart_ms": round(delay_s * 1000)}
        logger.error("a worker ended", extra={"fields": fields})
        starting = not self._started.done()
        if (starting and slot.hopeless) or all_hopeless(list(self._slots.values())):
            self._fail(GenerationFailed(f"worker {self.number}-{slot.number} cannot start; it ended with {cause}"))
            return
        self._timers[slot.number] = asyncio.get_running_loop().call_later(delay_s, self._fork, slot.number)

    def _fail(self, error: RecservError) -> None:
        if self._draining:
            return
        if not self._started.done():
            self._started.set_exception(error)
        else:
            logger.error("a worker cannot start", extra={"fields": {"problem": str(error)}})
            if isinstance(error, GenerationFailed):
                self._on_lost(self)

    def _look_if_empty(self) -> None:
        if self._draining and not self._peers and not any(slot.pid for slot in self._slots.values()):
            self._empty.set()


def cause_of(code: int) -> str:
    """An exit code, or the name of the signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
