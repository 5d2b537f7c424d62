"""Metrics of resilience: the state of each breaker, the calls it refused, and a log line for each change of state."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from recserv.resilience.breaker import BreakerState, CircuitBreaker, Transition

logger = logging.getLogger(__name__)


class ResilienceMetrics:
    """Records breakers and retries in the process's registry. `watch` registers a breaker."""

    def __init__(self, registry: CollectorRegistry):
        self._state = Gauge(
            "recserv_breaker_state",
            "0 closed, 1 half-open, 2 open; of each dependency.",
            ["breaker"],
            registry=registry,
        )
        self._transitions = Counter(
            "recserv_breaker_transitions",
            "Changes of state of each breaker, by new state and cause.",
            ["breaker", "state", "cause"],
            registry=registry,
        )
        self._refused = Gauge(
            "recserv_breaker_refused_calls",
            "Calls that the breaker did not let through.",
            ["breaker"],
            registry=registry,
        )
        self._attempts = Gauge(
            "recserv_store_attempts",
            "Calls of the state store, retries included, by operation.",
            ["operation"],
            registry=registry,
        )
        self._retries = Counter(
            "recserv_store_retries",
            "Second attempts at the state store, by operation.",
            ["operation"],
            registry=registry,
        )

    def on_transition(self, change: Transition) -> None:
        """A breaker's listener."""
        state = change.after.name.lower()
        self._transitions.labels(change.breaker, state, change.cause).inc()
        fields = {
            "breaker": change.breaker,
            "from": change.before.name.lower(),
            "to": state,
            "cause": change.cause,
            "wait_ms": round(change.wait_s * 1000),
        }
        level = logging.INFO if change.after is BreakerState.CLOSED else logging.WARNING
        logger.log(level, "circuit breaker changed", extra={"fields": fields})

    def watch(self, *breakers: CircuitBreaker) -> None:
        """Registers gauges that are read at each scrape. A breaker replaces an earlier one of the same name."""
        for breaker in breakers:
            self._state.labels(breaker.name).set_function(partial(_state, breaker))
            self._refused.labels(breaker.name).set_function(partial(getattr, breaker, "refused"))

    def watch_attempts(self, attempts: Mapping[str, int]) -> None:
        """How often the store was called, by operation: a mapping whose owner goes on counting."""
        for operation in attempts:
            self._attempts.labels(operation).set_function(partial(attempts.__getitem__, operation))

    def retried(self, operation: str) -> None:
        """`operation`: read or append."""
        self._retries.labels(operation).inc()


class OverloadMetrics:
    """What the overload control reports."""

    def __init__(self, registry: CollectorRegistry):
        shed = Counter(
            "recserv_shed_calls",
            "Calls that got less than a full answer for want of room: brief (popular items) or reject.",
            ["verdict"],
            registry=registry,
        )
        self.brief, self.rejected = shed.labels("brief").inc, shed.labels("reject").inc
        self._limit = Gauge(
            "recserv_concurrency_limit", "Calls that may be inside at once, as found.", registry=registry
        )
        self._waiting = Gauge("recserv_waiting_calls", "Calls that wait for their turn.", registry=registry)

    def watch(self, *, limit: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Registers gauges that are read at each scrape."""
        self._limit.set_function(limit)
        self._waiting.set_function(waiting)


def _state(breaker: CircuitBreaker) -> float:
    return float(breaker.state)
