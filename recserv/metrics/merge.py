"""The metrics of several processes as those of one server.

    registry of a worker -> snapshot -> (sent to the parent) -> latest of each worker -> merged -> one page
    a worker that is gone -> its counters are kept, its gauges are not

Counters and histograms are summed over all workers, those that are gone included, so that none ever falls back. Gauges
say something of one process, so they get the label `worker`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from recserv.metrics.counters import RELOADS, begin_at_zero

_SUMMED = frozenset({"counter", "histogram", "gaugehistogram", "summary"})
OF_ALL = 0
"""Key of a source that speaks of the whole server."""

Labels = tuple[tuple[str, str], ...]


class Sample(msgspec.Struct, frozen=True, array_like=True):
    name: str
    labels: Labels
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """One metric with all its samples. `kind` and `name` are Prometheus's."""

    name: str
    kind: str
    text: str
    samples: list[Sample]


def snapshot(registry: CollectorRegistry) -> list[Family]:
    """What a registry says now."""
    return [
        Family(
            metric.name,
            metric.type,
            metric.documentation,
            [Sample(s.name, tuple(s.labels.items()), s.value) for s in metric.samples],
        )
        for metric in registry.collect()
    ]


class MergedMetrics(Collector):
    """What a scrape of the whole server finds. Thread-safe."""

    def __init__(self, refresh: Callable[[], None] = lambda: None):
        """`refresh` is called at each scrape, before anything is read."""
        self._refresh = refresh
        self._lock = threading.Lock()
        self._latest: dict[int, tuple[str, list[Family]]] = {}
        self._gone: dict[str, Family] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def update(self, key: int, worker: str, families: list[Family]) -> None:
        """The newest snapshot of a source; its key is its process id. `worker` empty: gauges are not labelled."""
        with self._lock:
            self._latest[key] = worker, families

    def retire(self, key: int) -> None:
        """The source is gone; nothing more comes from it."""
        with self._lock:
            _, families = self._latest.pop(key, ("", []))
            for family in families:
                if family.kind in _SUMMED:
                    known = self._gone.get(family.name)
                    self._gone[family.name] = family if known is None else _sum(known, family)

    def describe(self) -> list[Metric]:
        # Asked at registration; there is nothing to compare with.
        return []

    def collect(self) -> Iterator[Metric]:
        self._refresh()
        with self._lock:
            merged = dict(self._gone)
            for worker, families in self._latest.values():
                for family in families:
                    _put(merged, _labelled(family, worker) if worker and family.kind not in _SUMMED else family)
        yield from (_metric(family) for family in merged.values())


class ParentMetrics:
    """What the parent of the workers knows by itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reloads = Counter(
            "recserv_model_reloads",
            "Models tried while serving: loaded, refused, or unchanged.",
            ("outcome",),
            registry=self.registry,
        )
        begin_at_zero(self._reloads, *RELOADS)
        self._exits = Counter(
            "recserv_worker_exits",
            "Workers that ended without being told to, by exit code or signal.",
            ("cause",),
            registry=self.registry,
        )
        self._ready = Gauge("recserv_workers_ready", "Workers that serve.", registry=self.registry)
        self.process = CollectorRegistry()
        ProcessCollector(registry=self.process)

    def reload(self, outcome: str) -> None:
        """`outcome`: loaded, refused or unchanged."""
        self._reloads.labels(outcome).inc()

    def worker_exit(self, cause: str) -> None:
        self._exits.labels(cause).inc()

    def watch(self, ready: Callable[[], int]) -> None:
        self._ready.set_function(ready)


def _put(merged: dict[str, Family], family: Family) -> None:
    known = merged.get(family.name)
    if known is None:
        merged[family.name] = family
    elif family.kind in _SUMMED:
        merged[family.name] = _sum(known, family)
    else:
        merged[family.name] = Family(known.name, known.kind, known.text, _distinct(known.samples + family.samples))


def _sum(one: Family, other: Family) -> Family:
    """Samples of the same name and labels added up, in the order of their first appearance."""
    values: dict[tuple[str, Labels], float] = {}
    for sample in (*one.samples, *other.samples):
        key = sample.name, sample.labels
        values[key] = values.get(key, 0.0) + sample.value
    return Family(one.name, one.kind, one.text, [Sample(name, labels, v) for (name, labels), v in values.items()])


def _distinct(samples: Iterable[Sample]) -> list[Sample]:
    """One sample for each name and set of labels: a page that has two of them is refused as a whole."""
    return list({(sample.name, sample.labels): sample for sample in samples}.values())


def _labelled(family: Family, worker: str) -> Family:
    samples = [Sample(s.name, (*s.labels, ("worker", worker)), s.value) for s in family.samples]
    return Family(family.name, family.kind, family.text, samples)


def _metric(family: Family) -> Metric:
    metric = Metric(family.name, family.text, family.kind)
    for sample in family.samples:
        metric.add_sample(sample.name, dict(sample.labels), sample.value)
    return metric
