"""What uvicorn does not bound: how many connections there are, and how long one may keep us waiting for a request or
before it takes an answer.

uvicorn's `limit_concurrency` answers 503 to requests beyond it but keeps the connections, and its keep-alive timer ends
with the first byte of the next request, and does not run before the first one. granian bounds heads, but is written in
Rust; so this is a guard in front of uvicorn's own protocol, which still reads and writes HTTP.

    more than `connections_max`                  503 and closed, before a byte is read
    no whole head `head_timeout_s` after         408 and closed; a byte now and then does not help
    the connection, or its first byte
    what was sent is unread `unread_s` after     the kernel ends it: a reader that stopped, or that the network lost,
                                                 holds no place of a stream until TCP gives up, a quarter of an hour on

A head that comes in one piece, which is nearly every one, costs a comparison and no timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from recserv.gateway.answers import Refused, error_response, refusal

_BUSY_RETRY_MS = 1_000
_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
"""Linux's name for the timeout of RFC 5482."""


class BoundedProtocol(H11Protocol):
    """One connection."""

    def __init__(self, *, connections_max: int, head_timeout_s: float, unread_s: float, **uvicorns: Any):
        super().__init__(**uvicorns)
        self._connections_max, self._head_timeout_s, self._unread_s = connections_max, head_timeout_s, unread_s
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._connections_max:
            message = f"the gateway has {self._connections_max} connections"
            self._refuse(refusal("UNAVAILABLE", "GATEWAY_CONNECTIONS", message, retry_after_ms=_BUSY_RETRY_MS))
        else:
            _end_unread(transport, self._unread_s)
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        # Also for a body that nobody reads any more, since its answer has been sent.
        if self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE:
            self._wait()
        else:
            self._wait_no_more()

    def send_400_response(self, msg: str) -> None:
        """Invalid HTTP after an answer has begun cannot be answered: uvicorn would raise."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _wait(self) -> None:
        """From the first byte on, however many follow."""
        if self._waiting is None and not self.transport.is_closing():
            self._waiting = self.loop.call_later(self._head_timeout_s, self._too_late)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_late(self) -> None:
        self._waiting = None
        if self.conn.our_state is h11.DONE:
            self.transport.close()
        else:
            message = "the head of the request did not come in time"
            self._refuse(refusal("DEADLINE_EXCEEDED", "HEAD_TIMEOUT", message, http_status=408))

    def _refuse(self, refused: Refused) -> None:
        """Bypasses h11, which has no request yet to answer."""
        answer = error_response(refused.status, refused.http_status, {"Connection": "close"})
        lines = [f"HTTP/1.1 {answer.status_code} Refused".encode(), *(b": ".join(pair) for pair in answer.raw_headers)]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body))
        self.transport.close()


def _end_unread(transport: asyncio.Transport, after_s: float) -> None:
    if _USER_TIMEOUT is not None and (connected := transport.get_extra_info("socket")) is not None:
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, round(after_s * 1000))
