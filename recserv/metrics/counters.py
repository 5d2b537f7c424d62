"""A counter that somebody else counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class ReadCounter(Collector):
    """Asks `read` for its value at each scrape; what `read` gives never falls."""

    def __init__(self, name: str, text: str, registry: CollectorRegistry):
        self._name, self._text = name, text
        self.read: Callable[[], int] = lambda: 0
        registry.register(self)

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._text, value=self.read())
