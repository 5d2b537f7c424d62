"""Which failed calls are retried before the HTTP caller hears of the failure.

    UNAVAILABLE, CANCELLED   up to ATTEMPTS_MAX attempts, the last one begun within SHARE of the deadline: a server that
                             goes while another is there, a connection that broke (a stopping server's gRPC ends the
                             calls it had not begun as CANCELLED). A later failure is reported while the caller still
                             listens, as 503 with Retry-After, and not waited out into a 504 that says nothing.
    RESOURCE_EXHAUSTED       reported at once: there are too many callers, and Retry-After keeps this one away; waiting
                             here would hold its place, and mean more calls for a server that has too many.

The channel's own retries, which `recserv.client` relies on, follow neither rule; they stay for streams, up to the first
message, and for calls that never left the process. Any call may be retried, since an event counts once. Retries are
throttled as in gRFC A6: a failure costs a token, a success gives back a tenth of one, and below half of the tokens
nothing is retried. The budget is what all the calls that a gateway has in flight by default spend when a connection
breaks under them. Each method has its own: a store that takes no events must not end the retries of reads.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, TypeVar

import grpc

from recserv.client.failures import PUSHBACK_KEY

T = TypeVar("T")

ATTEMPTS_MAX = 4
SHARE = 0.5
CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_BACKOFF_S = 0.05
_PER_SUCCESS = 0.1
FREE_FAILURES = 256 * (ATTEMPTS_MAX - 1)


class Retries:
    """Retries the calls of one method to one target."""

    def __init__(
        self,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
        free_failures: int = FREE_FAILURES,
    ):
        """`clock` in seconds. free_failures: how many may come in a row before nothing is retried."""
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._tokens = self._tokens_max = 2.0 * free_failures

    async def call(self, attempt: Callable[[float], Awaitable[T]], timeout_s: float) -> T:
        """`attempt` gets the seconds that are left. Raises what the last attempt raised."""
        begun_s = self._clock()
        left_s = timeout_s
        for tried in range(1, ATTEMPTS_MAX + 1):
            try:
                answer = await attempt(left_s)
            except grpc.RpcError as error:
                wait_s = self._wait_s(error, tried)
                if wait_s is None or self._clock() + wait_s - begun_s > SHARE * timeout_s:
                    raise
            else:
                self._tokens = min(self._tokens + _PER_SUCCESS, self._tokens_max)
                return answer
            await self._sleep(wait_s)
            left_s = max(timeout_s - (self._clock() - begun_s), 0.0)
        raise AssertionError("the last attempt raises")

    def _wait_s(self, error: Any, tried: int) -> float | None:
        """None: the call is not retried."""
        if error.code() not in CODES:
            return None
        self._tokens = max(self._tokens - 1.0, 0.0)
        if self._tokens < self._tokens_max / 2 or tried == ATTEMPTS_MAX:
            return None
        told = _pushback_s(error)
        if told is None:
            return self._jitter(0.8, 1.2) * _BACKOFF_S * 2.0 ** (tried - 1)
        return told if told >= 0 else None


def _pushback_s(error: Any) -> float | None:
    """The server's word on when to try again; negative: not at all."""
    for key, value in error.trailing_metadata() or ():
        if key == PUSHBACK_KEY:
            try:
                return int(value) / 1000
            except ValueError:
                # gRFC A6: a value that cannot be read means no retry.
                return -1.0
    return None
