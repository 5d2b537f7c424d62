"""A gateway in this process, in front of a server over fakes, on that server's loop: gRPC likes one loop a process."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from recserv.gateway.process import serve_gateway
from recserv.gateway.settings import GatewaySettings
from tests.patience import HANG_GUARD_S
from tests.server.harness import LoopThread

_MS = int(HANG_GUARD_S * 1000)
PATIENT = dict.fromkeys(("timeout_ms", "timeout_ms_max", "heartbeat_ms", "keep_alive_ms", "head_timeout_ms"), _MS)


class Reply:
    def __init__(self, response: httpx.Response):
        self.status, self.headers, self.text = response.status_code, response.headers, response.text

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", self.text
        return json.loads(self.text)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        assert error["code"] == self.status
        return error

    def detail(self, kind: str) -> dict[str, Any]:
        [found] = [one for one in self.error["details"] if one["@type"] == f"type.googleapis.com/google.rpc.{kind}"]
        return dict(found)

    def fields(self) -> list[str]:
        return [one["field"] for one in self.detail("BadRequest")["fieldViolations"]]


class LiveGateway:
    def __init__(self, target: str, loop: LoopThread, **settings: Any):
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self.server: uvicorn.Server
        started: Future[uvicorn.Server] = Future()
        settings = {**PATIENT, **settings}
        work = serve_gateway(GatewaySettings(target=target, **settings), listener, started.set_result)
        self.ended = loop.begin(work)
        self.server = started.result(HANG_GUARD_S)
        self.http = httpx.Client(base_url=f"http://{self.address}", timeout=HANG_GUARD_S, trust_env=False)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """`body`: bytes as they are, anything else as JSON. Headers with underscores for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            named.setdefault("content-type", "application/json")
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Reply(self.http.request(method, path, content=body, headers=named))

    def rpc(self, method: str, body: Any, **headers: str) -> Reply:
        return self.send("POST", f"/rpc/recserv.v1.RecommendationService/{method}", body, **headers)

    def drain_soon(self) -> None:
        self.server.should_exit = True

    def close(self) -> None:
        self.http.close()
        self.drain_soon()
        self.ended.result(HANG_GUARD_S)


@contextmanager
def gateway_to(target: str, loop: LoopThread, **settings: Any) -> Iterator[LiveGateway]:
    gateway = LiveGateway(target, loop, **settings)
    try:
        yield gateway
    finally:
        gateway.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port
