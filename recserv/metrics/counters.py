"""Counters that somebody else counts, and counters whose first event must be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

RELOADS = ("loaded", "refused", "unchanged")
"""Outcomes of recserv_model_reloads."""


def begin_at_zero(counter: Counter, *values: str) -> None:
    """For what happens seldom: Prometheus sees no increase in a series that begins at 1."""
    for value in values:
        counter.labels(value)


class ReadCounter(Collector):
    """Asks `read` for its value at each scrape; what `read` gives never falls."""

    def __init__(self, name: str, text: str, registry: CollectorRegistry):
        self._name, self._text = name, text
        self.read: Callable[[], int] = lambda: 0
        registry.register(self)

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._text, value=self.read())
