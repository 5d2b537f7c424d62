"""Metrics of explanations: queue, calls and their cost, cache, and discarded texts by reason."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from recserv.types import DEFAULT_TENANT

_CALL_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_JOB_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class LlmMetrics:
    """An LlmObserver, for one tenant."""

    def __init__(self, registry: CollectorRegistry, tenant: str = DEFAULT_TENANT):
        self._tenant = tenant

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, ["tenant", *labels], registry=registry)

        self._calls = counter("recserv_llm_calls", "Calls to a model, by outcome.", "model", "outcome")
        self._call_seconds = Histogram(
            "recserv_llm_call_duration_seconds",
            "Time of a call.",
            ["tenant", "model"],
            buckets=_CALL_S,
            registry=registry,
        )
        self._tokens = counter("recserv_llm_tokens", "Tokens as the provider reported them.", "model", "direction")
        self._dollars = counter("recserv_llm_cost_dollars", "Spend; `reported` or `estimated`.", "model", "basis")
        self._discards = counter("recserv_explanation_discards", "Texts thrown away, by reason.", "reason")
        self._jobs = counter("recserv_explanation_jobs", "Jobs that ended, by outcome.", "outcome")
        self._job_seconds = Histogram(
            "recserv_explanation_wait_seconds",
            "From the answer to the end of its job.",
            ["tenant"],
            buckets=_JOB_S,
            registry=registry,
        )
        self._cache = counter(
            "recserv_explanation_lookups", "Texts asked for: hit, miss, or joined to one in the making.", "result"
        )
        self._dropped = counter("recserv_explanation_dropped", "Dropped because something was full, by what.", "what")
        self._queue = Gauge("recserv_explanation_queue_jobs", "Jobs that wait.", registry=registry)
        self._in_flight = Gauge("recserv_explanation_jobs_in_flight", "Jobs being worked on.", registry=registry)
        self._hits = self._cache.labels(tenant, "hit").inc
        self._misses = self._cache.labels(tenant, "miss").inc
        self._joined = self._cache.labels(tenant, "joined").inc

    def watch(self, *, queue: Callable[[], int], in_flight: Callable[[], int]) -> None:
        """Registers gauges that are read at each scrape."""
        self._queue.set_function(queue)
        self._in_flight.set_function(in_flight)

    def call(self, model: str, outcome: str, seconds: float) -> None:
        self._calls.labels(self._tenant, model, outcome).inc()
        self._call_seconds.labels(self._tenant, model).observe(seconds)

    def spent(self, model: str, input_tokens: int, output_tokens: int, nanodollars: int, estimated: bool) -> None:
        self._tokens.labels(self._tenant, model, "input").inc(input_tokens)
        self._tokens.labels(self._tenant, model, "output").inc(output_tokens)
        basis = "estimated" if estimated else "reported"
        self._dollars.labels(self._tenant, model, basis).inc(nanodollars / 1e9)

    def discarded(self, reason: str, count: int = 1) -> None:
        self._discards.labels(self._tenant, reason).inc(count)

    def job(self, outcome: str, waited_s: float) -> None:
        self._jobs.labels(self._tenant, outcome).inc()
        self._job_seconds.labels(self._tenant).observe(waited_s)

    def cache(self, hits: int, misses: int, joined: int) -> None:
        if hits:
            self._hits(hits)
        if misses:
            self._misses(misses)
        if joined:
            self._joined(joined)

    def dropped(self, kind: str, count: int = 1) -> None:
        self._dropped.labels(self._tenant, kind).inc(count)
