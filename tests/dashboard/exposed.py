"""What a server really exposes: every sample's name, with the names of its labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from recserv.app.model import load_model
from recserv.app.serving import running
from recserv.config import Settings
from recserv.metrics.merge import ParentMetrics

OF_A_SCRAPE = frozenset({"job", "instance"})
"""Prometheus sets them on whatever it scrapes."""
OF_SEVERAL_WORKERS = frozenset({"worker"})
"""On gauges, see recserv.metrics.merge."""
_SAMPLES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}

Exposed = dict[str, frozenset[str]]
"""Labels by name of a sample."""


async def exposed_by_a_server(model: Path, state: Path) -> tuple[Exposed, Exposed]:
    """Of all kinds of servers together; the second is by name of the metric as the dashboard must show it."""
    settings = Settings(model=str(model), listen="127.0.0.1:0", metrics_listen="off", state=f"embedded:{state}")
    parent = ParentMetrics()
    async with running(settings, load_model(settings)) as app:
        found = [
            family
            for registry in (app.metrics.registry, parent.registry, parent.process)
            for family in families(registry)
        ]
    samples: Exposed = {"up": OF_A_SCRAPE}
    for name, kind, labels in found:
        labels |= OF_A_SCRAPE | (OF_SEVERAL_WORKERS if kind == "gauge" else frozenset())
        for suffix in _SAMPLES[kind]:
            samples[name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return samples, {name: labels for name, kind, labels in found}


def families(registry: CollectorRegistry) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Name, kind and labels, also of those that nothing was counted in."""
    for collector in list(registry._collector_to_names):
        if isinstance(collector, MetricWrapperBase):
            yield collector._name, collector._type, frozenset(collector._labelnames)
        else:
            for metric in collector.collect():
                yield metric.name, metric.type, frozenset(name for one in metric.samples for name in one.labels)
