"""One worker: the server that a single process has, with the parent on the other end of a connection.

forked -> connected -> serving -> WorkerReady -> Drain, SIGTERM or the parent's end -> drained -> last Stats -> exit
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable
from socket import socket

import msgspec

from recserv.app.fleet.control import (
    AskStats,
    Drain,
    Message,
    Stats,
    WorkerHere,
    WorkerReady,
    WorkerRefused,
    connect,
    frame,
    messages,
)
from recserv.app.fleet.restart import TICK_S
from recserv.app.model import Model
from recserv.app.serving import running
from recserv.config import Settings
from recserv.errors import UsageError
from recserv.event_loop import loop_factory
from recserv.logs import Logs
from recserv.metrics.merge import snapshot

logger = logging.getLogger("recserv.app")

_LAST_WORD_S = 1.0


def serve_as_worker(settings: Settings, model: Model, control: str, generation: int, slot: int) -> int:
    """Serves until told to stop; returns the exit code. In a process that was forked for it."""
    name = f"{generation}-{slot}"
    # A terminal's Ctrl-C and a group's SIGTERM reach everybody; the parent says what follows from the first.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection = connect(control)
    connection.sendall(frame(WorkerHere(generation, slot, os.getpid())))
    logs = Logs(settings.log_level, always={"worker": name})
    own = msgspec.structs.replace(settings, metrics_listen="off")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        code = runner.run(_Worker(own, model, name, logs).serve(connection))
        logs.close()
        # Skips the runner's shutdown: the gRPC server is left open, and its connections end with the process.
        os._exit(code)


class _Worker:
    def __init__(self, settings: Settings, model: Model, name: str, logs: Logs):
        self._settings, self._model, self._name, self._logs = settings, model, name, logs
        self._stop = asyncio.Event()

    async def serve(self, connection: socket) -> int:
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)

        def send(message: Message) -> None:
            writer.write(frame(message))

        try:
            async with running(self._settings, self._model, self._logs, worker=self._name, ends_process=True) as app:

                def stats() -> None:
                    send(Stats(snapshot(app.metrics.registry)))

                gc.collect()
                gc.freeze()
                send(WorkerReady())
                listening = asyncio.create_task(self._listen(reader, stats))
                talking = asyncio.create_task(self._talk(stats))
                await self._stop.wait()
                logger.info("draining")
            listening.cancel()
            talking.cancel()
            stats()
        except UsageError as error:
            send(WorkerRefused(str(error)))
            return 2
        except Exception:
            logger.exception("the worker failed")
            return 1
        finally:
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(_LAST_WORD_S):
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        logger.info("drained")
        return 0

    async def _listen(self, reader: asyncio.StreamReader, stats: Callable[[], None]) -> None:
        async for message in messages(reader):
            if isinstance(message, Drain):
                self._stop.set()
            elif isinstance(message, AskStats):
                stats()
        # The parent is gone, and with it whoever would replace this process.
        self._stop.set()

    async def _talk(self, stats: Callable[[], None]) -> None:
        """Sends the metrics once a tick: a worker that is killed loses little, and one that hangs is noticed."""
        while True:
            await asyncio.sleep(TICK_S)
            stats()
