"""Admission: a limit on calls in flight, a limit on open streams, and the count that a drain waits for.

gRPC's own `maximum_concurrent_rpcs` is not used: it is checked after the interceptors, and its count was seen to
underflow. `stop()` may skip the `finally` of aborted handlers, so calls are counted here as well.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from recserv.errors import Overloaded
from recserv.server.status import ServerDraining

_RETRY_CALL_MS = 100
_RETRY_STREAM_MS = 5_000


class Visits(Protocol):
    """Counts the calls that are in handlers."""

    def enter(self) -> None: ...

    def leave(self) -> None: ...


class ConcurrencyLimiter:
    """A counter with a limit. A permit is taken by `enter` and given back exactly once by `leave`."""

    __slots__ = ("_drained", "_draining", "_full", "_retry_after_ms", "in_use", "limit", "turned_away")

    def __init__(self, limit: int, full: str, retry_after_ms: int):
        self.limit, self.in_use = limit, 0
        self.turned_away = 0
        self._full, self._retry_after_ms = full, retry_after_ms
        self._draining = False
        self._drained = asyncio.Event()

    def enter(self, permits: int = 1) -> None:
        """Raises Overloaded when the limit is reached, ServerDraining after `close`."""
        if self._draining:
            self.turned_away += 1
            raise ServerDraining("the server is shutting down")
        if self.in_use + permits > self.limit:
            raise Overloaded(self._full, self._retry_after_ms)
        self.in_use += permits

    def leave(self, permits: int = 1) -> None:
        self.in_use -= permits
        if self._draining and not self.in_use:
            self._drained.set()

    def close(self) -> None:
        """No new permits from now on."""
        self._draining = True
        if not self.in_use:
            self._drained.set()

    async def drained(self) -> None:
        """Returns once `close` has been called and every permit has been given back."""
        await self._drained.wait()


class Admission:
    """The limits of one server. Each class of unary calls has its own, so that none starves another: a recommendation
    can be answered without disk or store, however many events and contexts are waiting for those, and the reverse.
    """

    def __init__(self, max_in_flight: int, max_streams: int, max_watches: int = 1_000):
        def of_calls(what: str) -> ConcurrencyLimiter:
            return ConcurrencyLimiter(max_in_flight, f"{max_in_flight} {what} are in flight already", _RETRY_CALL_MS)

        self.recommends = of_calls("recommendations")
        self.events = of_calls("event calls")
        self.others = of_calls("calls")
        self.streams = ConcurrencyLimiter(max_streams, f"{max_streams} streams are open already", _RETRY_STREAM_MS)
        # Of recommendations: they stay open for hours, and must not use up the places of short-lived streams.
        self.watches = ConcurrencyLimiter(max_watches, f"{max_watches} watches are open already", _RETRY_STREAM_MS)
        # Of health and reflection: a drain does not wait for them, and their limit is separate from ours.
        self.watchers = ConcurrencyLimiter(
            max_streams, f"{max_streams} such streams are open already", _RETRY_STREAM_MS
        )
        self.closed = False
        self._stream_tasks: set[asyncio.Task[None]] = set()

    @property
    def _unary(self) -> tuple[ConcurrencyLimiter, ...]:
        return self.recommends, self.events, self.others

    @property
    def _all(self) -> tuple[ConcurrencyLimiter, ...]:
        return *self._unary, self.streams, self.watches

    def interrupt_on_close(self, task: asyncio.Task[None]) -> None:
        """Cancels `task` when the server begins to drain: the part of a stream that may wait for ever."""
        self._stream_tasks.add(task)
        task.add_done_callback(self._stream_tasks.discard)

    def close(self) -> None:
        """Refuses new calls. Streams of events finish what they have taken, and end; other streams end at once."""
        self.closed = True
        for limiter in self._all:
            limiter.close()
        for task in tuple(self._stream_tasks):
            task.cancel()

    @property
    def turned_away(self) -> int:
        """How many calls and streams were refused because they came after `close`."""
        return sum(limiter.turned_away for limiter in self._all)

    @property
    def in_flight(self) -> int:
        """Permits of unary calls in use. Each running entry of a batch holds one."""
        return sum(limiter.in_use for limiter in self._unary)

    async def drained(self) -> None:
        for limiter in self._all:
            await limiter.drained()
