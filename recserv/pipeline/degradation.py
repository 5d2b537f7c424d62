"""What is lost when something fails, and what answers instead. Decided here and nowhere else.

    lost                 answers instead                          label
    state store          the request's own context                STATE_UNAVAILABLE; STALE_STATE for a token
    vector index         the other sources                        INDEX_UNAVAILABLE, INDEX_TIMEOUT
    another source       the sources that are left                SOURCE_UNAVAILABLE
    ranker               fixed weights over the same features     RANKER_UNAVAILABLE
    reasons and texts    results without them                     EXPLANATION_UNAVAILABLE
    time                 popular items                            DEADLINE
    room                 popular items                            OVERLOAD
    anything else        popular items                            STAGE_FAILED

Dependencies are called through a `Guard`: its circuit breaker decides whether the call is made, errors become a label,
and the caller goes on with the substitute. A dependency that answers nonsense counts as failed.
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
    """A dependency broke its contract: an answer of the wrong shape, with NaN, unknown items or out of order."""

    reason = "BAD_ANSWER"


class Guard:
    """Guards one dependency. `unavailable` labels failures and calls the breaker refused, `timeout` late answers."""

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
        """The result of `work`; if the breaker is open or `work` raises, `instead`, with a label in the trace. For work
        that does not await: a third of the cost of `run`, which nearly every request would pay twice.
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
        """`call` for work that is awaited. A cancelled caller counts neither for nor against the dependency."""
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
    """Why only popular items can be answered; None if there is time for a full answer and the model is `whole`."""
    if deadline.remaining_s() * 1000 < full_answer_min_ms:
        return DegradedReason.DEADLINE
    return None if whole else DegradedReason.SOURCE_UNAVAILABLE
