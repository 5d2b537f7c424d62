"""The process: a socket, uvicorn with the application behind it, and an end that answers what is in flight.

SIGTERM -> no new connections -> requests in flight answered, or drain_ms over -> the channel closed -> exit code 0
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvicorn

from recserv.config import parse_address
from recserv.errors import UsageError
from recserv.event_loop import loop_factory
from recserv.gateway.calls import Target
from recserv.gateway.connections import BoundedProtocol
from recserv.gateway.routes import Gateway
from recserv.gateway.settings import GatewaySettings
from recserv.gateway.sse import TRANSPORT
from recserv.logs import Logs
from recserv.open_files import raise_open_files

_log = logging.getLogger(__name__)
_FILES_BESIDE = 64
"""Open files besides callers' connections: sockets to the servers, the loop's own, libraries."""


def run_gateway(settings: GatewaySettings, say: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT. `say` gets the URL. Raises UsageError if it cannot listen."""
    listener = _listener(settings.listen)
    host, port = listener.getsockname()[:2]
    logs = Logs(settings.log_level)
    if (files := raise_open_files()) < settings.max_connections + _FILES_BESIDE:
        # Callers beyond the limit would get no answer at all, not even a 503.
        fields = {"open_files": files, "max_connections": settings.max_connections}
        _log.warning("this process may open too few files for max_connections", extra={"fields": fields})

    def begun(server: uvicorn.Server) -> None:
        _end_on_signals(server)
        say(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve_gateway(settings, listener, begun))
    finally:
        logs.close()


def check_listen(address: str) -> None:
    """Raises UsageError if the address cannot be listened on at this moment."""
    _listener(address).close()


def _listener(address: str) -> socket.socket:
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UsageError(f"cannot listen on {address}: {error.strerror or error}; see --listen") from error


async def serve_gateway(
    settings: GatewaySettings, listener: socket.socket, begun: Callable[[uvicorn.Server], None]
) -> None:
    """Owns the listener. `begun` gets the server, whose `should_exit` ends it."""
    streams = settings.max_streams + settings.max_watches
    target = Target(settings.target, streams)
    compare = Target(settings.compare, streams) if settings.compare else None
    gateway = Gateway(settings, target, compare=compare)
    server = _Server(_config(settings, gateway), begun, gateway.draining)
    try:
        await server.serve([listener])
    finally:
        await target.close()
        if compare is not None:
            await compare.close()
        _log.info("drained")


def _config(settings: GatewaySettings, gateway: Gateway) -> uvicorn.Config:
    return uvicorn.Config(
        gateway.app(),
        # Nothing but HTTP/1.1, by the parser that always comes with uvicorn.
        http=_protocol(settings),
        ws="none",
        lifespan="off",
        # Paths hold ids of shoppers.
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=math.ceil(settings.keep_alive_ms / 1000),
        timeout_graceful_shutdown=math.ceil(settings.drain_ms / 1000),
    )


def _protocol(settings: GatewaySettings) -> Any:
    """What uvicorn calls for each connection."""
    return partial(
        _Protocol,
        connections_max=settings.max_connections,
        head_timeout_s=settings.head_timeout_ms / 1000,
        unread_s=settings.unread_ms / 1000,
    )


class _Protocol(BoundedProtocol):
    """Tells each request which transport it came in on."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}


class _Server(uvicorn.Server):
    """Says when it listens, and leaves signals to the process: uvicorn would raise them again after its shutdown, and
    a drained process would end by SIGTERM and not with exit code 0.
    """

    def __init__(self, config: uvicorn.Config, begun: Callable[[uvicorn.Server], None], draining: asyncio.Event):
        """`draining` ends what would not end by itself."""
        super().__init__(config)
        self._begun, self._draining = begun, draining

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._begun(self)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        _log.info("draining")
        self._draining.set()
        await super().shutdown(sockets)


def _end_on_signals(server: uvicorn.Server) -> None:
    def end() -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
