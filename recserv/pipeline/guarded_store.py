"""The state store behind circuit breakers: if it is down, calls fail at once and not after a timeout.

    read     permit -> attempt within its time -> states, else StoreUnavailable or TimeoutError
    append   permit -> attempt within its time -> results; nothing is ever lost silently: unacknowledged events are
             UNAVAILABLE, and the same ids may be sent again

Reads and writes have a breaker each: a full disk or a read-only replica must not make the state unreadable. Both are
idempotent (appends by event id), so a failed attempt is repeated once, after a jittered pause, if the breaker is
closed, time is left and the retry budget has a token. An attempt that timed out is not repeated.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from recserv.errors import StoreUnavailable
from recserv.resilience.breaker import BreakerSettings, BreakerState, CircuitBreaker, OnTransition
from recserv.resilience.deadline import MonotonicClock
from recserv.resilience.quiet_log import QuietLog
from recserv.resilience.retry import RetryBudget
from recserv.stores.base import AppendEvent, AppendResult, AppendStatus, StateStore, StateVersion
from recserv.types import ShopperKey, ShopperState

_log = QuietLog(logging.getLogger(__name__))

T = TypeVar("T")

RETRY_AFTER_S_MAX = 2.0
TOO_LATE = "the store did not answer in time; send the event again"


class StoreGuardSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`append_timeout_s` limits a write with its retry; reads are limited by the budgets of their requests."""

    breaker: BreakerSettings = BreakerSettings()
    retry_share: float = 0.1
    retry_pause_s_max: float = 0.02
    append_timeout_s: float = 2.0


class StoreGuard:
    """Shared by all users of one store: both breakers and the retry budget. For one event loop."""

    def __init__(
        self,
        settings: StoreGuardSettings | None = None,
        *,
        clock: MonotonicClock = time.monotonic,
        random: Callable[[], float] = random.random,
        on_transition: OnTransition | None = None,
        on_retry: Callable[[str], None] | None = None,
    ):
        self.settings = settings = settings or StoreGuardSettings()
        self.clock, self.random = clock, random
        self.on_retry = on_retry or (lambda operation: None)

        def breaker(name: str) -> CircuitBreaker:
            return CircuitBreaker(name, settings.breaker, clock=clock, random=random, on_transition=on_transition)

        self.reads, self.writes = breaker("store_read"), breaker("store_write")
        self.retries = RetryBudget(settings.retry_share)
        self.attempts = {"read": 0, "append": 0, "versions": 0}
        """How often the store was really called."""


class GuardedStore:
    """Reads and appends of `store`. Opening and closing the store is its owner's job."""

    def __init__(self, store: StateStore, guard: StoreGuard | None = None):
        self._store = store
        self._guard = guard or StoreGuard()

    @property
    def token_key(self) -> bytes:
        """See StateStore.token_key."""
        return self._store.token_key

    async def read(self, tenant: str, keys: Sequence[ShopperKey], within_s: float) -> list[ShopperState]:
        """See StateStore.read. Raises StoreUnavailable (at once while the breaker is open) or TimeoutError."""
        guard = self._guard
        guard.retries.request()
        ends_s = guard.clock() + within_s
        try:
            return await self._read(tenant, keys, within_s)
        except StoreUnavailable:
            if not await self._may_retry("read", guard.reads, ends_s):
                raise
            return await self._read(tenant, keys, ends_s - guard.clock())

    def _read(self, tenant: str, keys: Sequence[ShopperKey], within_s: float) -> Awaitable[list[ShopperState]]:
        return self._attempt(
            "read", self._guard.reads, within_s, lambda: self._store.read(tenant, keys), worked=lambda states: True
        )

    async def versions(self, tenant: str, keys: Sequence[ShopperKey], within_s: float) -> list[StateVersion]:
        """See StateStore.versions. Not retried, since probes recur anyway. Raises StoreUnavailable (at once while the
        read breaker is open) or TimeoutError.

        Results do not count for that breaker. Probes run many times a second, while a quiet server rarely reads: for a
        store user without permission for scripts, failed probes would open the breaker and so disable reads that work;
        and successful probes would mask reads that fail.
        """
        guard = self._guard
        if guard.reads.retry_after_s() > 0.0:
            raise _left_alone(guard.reads)
        guard.attempts["versions"] += 1
        limit = asyncio.timeout(max(0.0, within_s))
        try:
            async with limit:
                return await self._store.versions(tenant, keys)
        except Exception as error:
            _check_foreseen("versions", error, limit)
            raise

    async def append(self, tenant: str, events: Sequence[AppendEvent]) -> list[AppendResult]:
        """See StateStore.append: a result per event, in order. Never raises for a fault of the store, which finishes
        what it has started even if the caller is cancelled.
        """
        guard = self._guard
        guard.retries.request()
        ends_s = guard.clock() + guard.settings.append_timeout_s
        results, in_time = await self._append(tenant, events, guard.settings.append_timeout_s)
        lost = [n for n, result in enumerate(results) if result.status == AppendStatus.UNAVAILABLE]
        if lost and in_time and await self._may_retry("append", guard.writes, ends_s):
            results = list(results)
            again, _ = await self._append(tenant, [events[n] for n in lost], ends_s - guard.clock())
            for n, result in zip(lost, again, strict=True):
                results[n] = result
        return results

    async def _append(
        self, tenant: str, events: Sequence[AppendEvent], within_s: float
    ) -> tuple[list[AppendResult], bool]:
        """The results, and False if time ran out."""
        try:
            results = await self._attempt(
                "append", self._guard.writes, within_s, lambda: self._store.append(tenant, events), worked=_not_all_lost
            )
        except TimeoutError:
            return _unavailable(events, TOO_LATE), False
        except StoreUnavailable as error:
            # Stores report per event. One that raises nevertheless must not fail the call.
            return _unavailable(events, str(error)), True
        return results, True

    async def _attempt(
        self,
        operation: str,
        breaker: CircuitBreaker,
        within_s: float,
        work: Callable[[], Awaitable[T]],
        worked: Callable[[T], bool],
    ) -> T:
        """The store's answer. Raises StoreUnavailable (at once while the breaker is open) or TimeoutError."""
        guard = self._guard
        permit = breaker.acquire()
        if not permit:
            raise _left_alone(breaker)
        guard.attempts[operation] += 1
        began_s = guard.clock()
        limit = asyncio.timeout(max(0.0, within_s))
        try:
            async with limit:
                given = await work()
        except asyncio.CancelledError:
            breaker.release(permit)
            raise
        except Exception as error:
            breaker.fail(permit, guard.clock() - began_s)
            _check_foreseen(operation, error, limit)
            raise
        if worked(given):
            breaker.succeed(permit, guard.clock() - began_s)
        else:
            breaker.fail(permit, guard.clock() - began_s)
        return given

    async def _may_retry(self, operation: str, breaker: CircuitBreaker, ends_s: float) -> bool:
        """Whether a second attempt may be made; waits for the pause before it."""
        guard = self._guard
        pause_s = guard.random() * guard.settings.retry_pause_s_max
        # Leaves at least as much time as the pause took, so that the attempt has a chance.
        if (
            breaker.state is not BreakerState.CLOSED
            or guard.clock() + 2 * pause_s >= ends_s
            or not guard.retries.take()
        ):
            return False
        await asyncio.sleep(pause_s)
        guard.on_retry(operation)
        return True


def _check_foreseen(operation: str, error: Exception, limit: asyncio.Timeout) -> None:
    """Logs an error that no store should raise, and raises StoreUnavailable instead."""
    if not (isinstance(error, StoreUnavailable) or (isinstance(error, TimeoutError) and limit.expired())):
        _log.log(logging.ERROR, operation, "the state store raised", error=error)
        raise StoreUnavailable(f"the state store failed ({type(error).__name__})") from error


def _left_alone(breaker: CircuitBreaker) -> StoreUnavailable:
    wait_s = min(max(breaker.retry_after_s(), 0.1), RETRY_AFTER_S_MAX)
    return StoreUnavailable("the state store failed lately and is left alone for a moment", round(wait_s * 1000))


def _not_all_lost(results: Sequence[AppendResult]) -> bool:
    return any(result.status != AppendStatus.UNAVAILABLE for result in results)


def _unavailable(events: Sequence[AppendEvent], text: str) -> list[AppendResult]:
    return [AppendResult(AppendStatus.UNAVAILABLE, 0, text)] * len(events)
