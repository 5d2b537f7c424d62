"""The HTTP listener for Prometheus and for probes: /metrics, /healthz, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any, Protocol
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server

from recserv.errors import UsageError

_TEXT = ("Content-Type", "text/plain; charset=utf-8")
StartResponse = Callable[[str, list[tuple[str, str]]], object]
WsgiApp = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class HasRegistry(Protocol):
    @property
    def registry(self) -> CollectorRegistry: ...


class MetricsListener:
    """On threads of its own. `serving` is what /healthz tells (200 or 503); it is called on any of them."""

    def __init__(self, metrics: HasRegistry, host: str, port: int, serving: Callable[[], bool] = lambda: True):
        """Raises UsageError if the address cannot be taken."""
        self._server: WSGIServer
        self._thread: Thread
        try:
            self._server, self._thread = start_http_server(port, host, metrics.registry)
        except OSError as error:
            raise address_refused(host, port, error.strerror or str(error)) from error
        # Its own application answers every path with the metrics, a probe's too.
        self._server.set_app(_pages(make_wsgi_app(metrics.registry), serving))
        self.address = f"{host}:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def address_refused(host: str, port: int, problem: str) -> UsageError:
    return UsageError(
        f"cannot listen for metrics on {host}:{port}: {problem};"
        " a second server on one machine needs another --metrics-listen (RECSERV_METRICS_LISTEN), or `off`"
    )


def _pages(metrics: WsgiApp, serving: Callable[[], bool]) -> WsgiApp:
    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == "/metrics":
            return metrics(environ, start_response)
        if path != "/healthz":
            status, text = "404 Not Found", "there is /metrics and /healthz\n"
        elif method not in ("GET", "HEAD"):
            status, text = "405 Method Not Allowed", "GET or HEAD\n"
        elif serving():
            status, text = "200 OK", "serving\n"
        else:
            status, text = "503 Service Unavailable", "not serving\n"
        start_response(status, [_TEXT, ("Content-Length", str(len(text)))])
        return [b""] if method == "HEAD" else [text.encode()]

    return answer
