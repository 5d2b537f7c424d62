"""Prometheus metrics, in a registry of their own.

Children are bound before they are used: a call on the request path is one dictionary look-up and one increment. What
knows its tenant is bound to it (`PipelineMetrics`, `EventMetrics`), so the tenant costs nothing per call.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from recserv.metrics.build import build_labels
from recserv.metrics.counters import RELOADS, ReadCounter, begin_at_zero
from recserv.metrics.memory import malloc_counter, python_blocks
from recserv.types import DEFAULT_TENANT, DegradedReason, EventType, Source

_LATENCY_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_UNKNOWN_TYPE = -1
_BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

# A series more for each counter, which says when the process met it first and is asked for by nobody.
disable_created_metrics()  # type: ignore[no-untyped-call]

RequestDone = Callable[[str, float], None]
"""(status name, seconds) at the end of a call."""


class Metrics:
    """Every metric of one process. Safe to call from any thread."""

    def __init__(self, registry: CollectorRegistry | None = None):
        self.registry = registry or CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

        self._requests = counter(
            "recserv_requests", "Finished calls by RPC and gRPC status.", "tenant", "rpc", "status"
        )
        self._request_seconds = histogram(
            "recserv_request_duration_seconds", "Time in the handler.", _LATENCY_S, "tenant", "rpc"
        )
        self.stage_seconds = histogram(
            "recserv_stage_duration_seconds", "Time in one stage of the request path.", _LATENCY_S, "tenant", "stage"
        )
        self.results = counter(
            "recserv_results", "Results answered, by the source that contributed most.", "tenant", "source"
        )
        self.degraded = counter(
            "recserv_degraded", "Reasons of degraded answers; an answer may have several.", "tenant", "reason"
        )
        self.index_searches = counter("recserv_index_searches", "Searches of the vector index.", "tenant")
        self.events = counter("recserv_events", "Events taken in, by type and outcome.", "tenant", "type", "outcome")
        self.unknown_items = counter(
            "recserv_unknown_items", "Accepted events that name an item the model does not know.", "tenant"
        )
        self._commit_events = histogram("recserv_commit_events", "Events in one commit of the store.", _BATCH_SIZES)
        self._commit_seconds = histogram(
            "recserv_commit_duration_seconds", "Time of one commit of the store.", _LATENCY_S
        )
        self._unavailable = counter(
            "recserv_store_unavailable_events", "Events that the store could not make durable.", "cause"
        )
        self._read_failures = counter("recserv_store_read_failures", "Reads that the store could not answer.", "cause")
        self._undecodable = counter(
            "recserv_store_undecodable", "Stored records that could not be read and counted as none.", "kind"
        )
        self._evicted = counter("recserv_sessions_evicted", "Live sessions forgotten before their time.")
        self._swept = counter("recserv_store_swept", "What sweeps removed from the store.", "kind")
        self._in_flight = gauge("recserv_in_flight_requests", "Calls being worked on.")
        self._streams = gauge("recserv_open_streams", "Open streaming calls.")
        self._log_dropped = ReadCounter(
            "recserv_log_lines_dropped", "Log lines dropped because the queue was full.", self.registry
        )
        self._reloads = counter(
            "recserv_model_reloads", "Models tried while serving: loaded, refused, or unchanged.", "outcome"
        )
        begin_at_zero(self._reloads, *RELOADS)
        self._model = gauge("recserv_model_info", "1 for the version that serves.", "version")
        self._model_age = gauge("recserv_model_age_seconds", "Time since the model was built.")
        labels = build_labels()
        gauge("recserv_build_info", "1 for what runs: versions of recserv, Python and grpcio.", *labels).labels(
            **labels
        ).set(1)
        gauge("recserv_python_blocks", "Blocks of Python's allocator in use: objects of up to 512 bytes.").set_function(
            python_blocks
        )
        if malloc_in_use := malloc_counter():
            gauge("recserv_malloc_in_use_bytes", "Bytes of the C library's allocator in use.").set_function(
                malloc_in_use
            )
        ProcessCollector(registry=self.registry)

    def rpc(self, rpc: str, tenant: str = DEFAULT_TENANT) -> RequestDone:
        """The function that a handler calls once at the end of each call."""
        by_status: dict[str, Callable[[], None]] = {"OK": self._requests.labels(tenant, rpc, "OK").inc}
        observe = self._request_seconds.labels(tenant, rpc).observe

        def done(status: str, seconds: float) -> None:
            count = by_status.get(status)
            if count is None:
                count = by_status[status] = self._requests.labels(tenant, rpc, status).inc
            count()
            observe(seconds)

        return done

    def model(self, version: str, built_ms: int) -> None:
        """Names the model that serves from now on; `built_ms` 0: unknown."""
        self._model.clear()
        self._model.labels(version).set(1)
        self._model_age.set_function(lambda: time.time() - built_ms / 1000 if built_ms else float("nan"))

    def reload(self, outcome: str) -> None:
        """`outcome`: loaded, refused or unchanged."""
        self._reloads.labels(outcome).inc()

    def watch(
        self, *, in_flight: Callable[[], int], streams: Callable[[], int], log_lines_dropped: Callable[[], int]
    ) -> None:
        """What is read when somebody looks."""
        self._in_flight.set_function(in_flight)
        self._streams.set_function(streams)
        self._log_dropped.read = log_lines_dropped

    def commit(self, events: int, seconds: float) -> None:
        """One commit of the store."""
        self._commit_events.observe(events)
        self._commit_seconds.observe(seconds)

    def store_unavailable(self, events: int, cause: str) -> None:
        """`cause`: one of a few fixed words."""
        self._unavailable.labels(cause).inc(events)

    def store_read_failed(self, cause: str) -> None:
        """`cause`: one of a few fixed words."""
        self._read_failures.labels(cause).inc()

    def store_undecodable(self, kind: str, records: int) -> None:
        self._undecodable.labels(kind).inc(records)

    def sessions_evicted(self, sessions: int) -> None:
        self._evicted.inc(sessions)

    def swept(self, **removed: int) -> None:
        """What one round of the sweep removed, by kind."""
        for kind, count in removed.items():
            if count:
                self._swept.labels(kind).inc(count)


class PipelineMetrics:
    """What the request path reports while it runs, for one tenant."""

    def __init__(self, metrics: Metrics, tenant: str = DEFAULT_TENANT):
        self._stages: dict[str, Callable[[float], None]] = {}
        self._stage_seconds, self._tenant = metrics.stage_seconds, tenant
        self._degraded = {r: metrics.degraded.labels(tenant, r.name.lower()).inc for r in DegradedReason if r}
        self._sources = {s: metrics.results.labels(tenant, s.name.lower()).inc for s in Source if s}
        self._index_searches = metrics.index_searches.labels(tenant).inc

    def stage(self, name: str, seconds: float) -> None:
        observe = self._stages.get(name)
        if observe is None:
            observe = self._stages[name] = self._stage_seconds.labels(self._tenant, name).observe
        observe(seconds)

    def degraded(self, reason: DegradedReason) -> None:
        self._degraded[reason]()

    def source(self, source: Source, count: int) -> None:
        self._sources[source](count)

    def index_search(self) -> None:
        self._index_searches()


class EventMetrics:
    """What became of events, for one tenant."""

    def __init__(self, metrics: Metrics, tenant: str = DEFAULT_TENANT):
        self._children: dict[tuple[int, str], Callable[[float], None]] = {}
        self._events, self._tenant = metrics.events, tenant
        self._unknown_items = metrics.unknown_items.labels(tenant).inc

    def outcome(self, event_type: int, outcome: str, events: int = 1) -> None:
        """`outcome`: a word of a fixed few, such as accepted, duplicate, invalid_input. Unknown types are one."""
        key = (event_type, outcome)
        count = self._children.get(key)
        if count is None:
            known = event_type in EventType._value2member_map_
            if not known and event_type != _UNKNOWN_TYPE:
                self.outcome(_UNKNOWN_TYPE, outcome, events)
                return
            name = EventType(event_type).name.lower() if known else "unknown"
            count = self._children[key] = self._events.labels(self._tenant, name, outcome).inc
        count(events)

    def unknown_items(self, events: int) -> None:
        """Accepted events whose item the model does not know."""
        self._unknown_items(events)
