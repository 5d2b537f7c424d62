"""What is lost when something fails, and what answers instead: the one place where that is decided.

    lost                 answers instead                          label
    state store          the request's own context                STATE_UNAVAILABLE; STALE_STATE for a token
    vector index         the other sources                        INDEX_UNAVAILABLE, INDEX_TIMEOUT
    another source       the sources that are left                SOURCE_UNAVAILABLE
    ranker               fixed weights over the same features     RANKER_UNAVAILABLE
    reasons and texts    results without them                     EXPLANATION_UNAVAILABLE
    time                 popular items                            DEADLINE
    room                 popular items                            OVERLOAD
    anything else        popular items                            STAGE_FAILED

A dependency is called through a `Guard`: its circuit breaker decides whether, its errors become a label, and whoever
called goes on with what it would have had without the dependency. A dependency that answers nonsense has failed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from recserv.errors import RecservError
from recserv.pipeline.trace import Trace
from recserv.resilience.breaker import BreakerSettings, CircuitBreaker, OnTransition
from recserv.resilience.deadline import Deadline, MonotonicClock
from recserv.resilience.quiet_log import QuietLog
from recserv.types import DegradedReason

P = ParamSpec("P")
T = TypeVar("T")

logger = QuietLog(logging.getLogger(__name__))


class BadAnswer(RecservError):
    """A dependency answered, and the answer is not what it promises: wrong shape, NaN, unknown items, disorder."""

    reason = "BAD_ANSWER"


class Guard:
    """Calls of one dependency. `unavailable` labels a failure or a refusal, `timeout` an answer that came too late."""

    def __init__(
        self,
        breaker: CircuitBreaker,
        unavailable: DegradedReason,
        timeout: DegradedReason,
        clock: MonotonicClock = time.monotonic,
    ):
        self.breaker = breaker
        self._unavailable, self._timeout = unavailable, timeout
        self._clock = clock

    def call(self, trace: Trace, instead: T, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` gives; `instead`, and a label in the trace, if it must not run or raises. For work that waits for
        nothing: a third of the price of `run`, which nearly every request would pay twice.
        """
        permit = self.breaker.acquire()
        if not permit:
            trace.degrade(self._unavailable)
            return instead
        began_s = self._clock()
        try:
            found = work(*args, **kwargs)
        except Exception as error:
            self._failed(trace, permit, began_s, error)
            return instead
        self.breaker.succeed(permit, self._clock() - began_s)
        return found

    async def run(
        self, trace: Trace, instead: T, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `call`, for work that is awaited. A caller that goes away says nothing of the dependency."""
        permit = self.breaker.acquire()
        if not permit:
            trace.degrade(self._unavailable)
            return instead
        began_s = self._clock()
        try:
            found = await work(*args, **kwargs)
        except Exception as error:
            self._failed(trace, permit, began_s, error)
            return instead
        except BaseException:
            self.breaker.release(permit)
            raise
        self.breaker.succeed(permit, self._clock() - began_s)
        return found

    def _failed(self, trace: Trace, permit: int, began_s: float, error: Exception) -> None:
        self.breaker.fail(permit, self._clock() - began_s)
        if isinstance(error, TimeoutError):
            trace.degrade(self._timeout)
            return
        logger.log(logging.ERROR, self.breaker.name, f"{self.breaker.name} failed", error=error)
        trace.degrade(self._unavailable)


class Guards:
    """The guards of the request path. The state store's breakers belong to `guarded_store`."""

    def __init__(
        self,
        breaker: BreakerSettings | None = None,
        *,
        clock: MonotonicClock = time.monotonic,
        on_transition: OnTransition | None = None,
    ):
        def guard(name: str, unavailable: DegradedReason, timeout: DegradedReason) -> Guard:
            made = CircuitBreaker(name, breaker, clock=clock, on_transition=on_transition)
            return Guard(made, unavailable, timeout, clock)

        self.index = guard("index", DegradedReason.INDEX_UNAVAILABLE, DegradedReason.INDEX_TIMEOUT)
        self.ranker = guard("ranker", DegradedReason.RANKER_UNAVAILABLE, DegradedReason.RANKER_UNAVAILABLE)


def popular_only(deadline: Deadline, full_answer_min_ms: float, whole: bool) -> DegradedReason | None:
    """Why popular items have to do; None: there is the time for a full answer, and the model is `whole`."""
    if deadline.remaining_s() * 1000 < full_answer_min_ms:
        return DegradedReason.DEADLINE
    return None if whole else DegradedReason.SOURCE_UNAVAILABLE
