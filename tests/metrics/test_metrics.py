from __future__ import annotations

import gc
import platform
from collections.abc import Callable
from importlib.metadata import version

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from recserv.metrics import EventMetrics, Metrics, PipelineMetrics
from recserv.metrics.memory import malloc_counter
from recserv.metrics.merge import ParentMetrics
from recserv.pipeline.observer import PipelineObserver
from recserv.types import DegradedReason, EventType, Source


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_calls_are_counted_and_timed() -> None:
    metrics = Metrics()
    done = metrics.rpc("Recommend")
    assert value(metrics, "recserv_requests_total", tenant="default", rpc="Recommend", status="OK") == 0
    done("OK", 0.002)
    done("UNAVAILABLE", 0.5)
    for status in ("OK", "UNAVAILABLE"):
        assert value(metrics, "recserv_requests_total", tenant="default", rpc="Recommend", status=status) == 1
    assert value(metrics, "recserv_request_duration_seconds_sum", tenant="default", rpc="Recommend") == 0.502


def test_the_request_path_reports_stages_sources_degradation_and_searches() -> None:
    metrics = Metrics()
    observer: PipelineObserver = PipelineMetrics(metrics, "shop")
    observer.stage("rank", 0.001)
    observer.stage("rank", 0.002)
    observer.degraded(DegradedReason.STALE_STATE)
    observer.source(Source.COVISITATION, 7)
    observer.index_search()
    assert value(metrics, "recserv_stage_duration_seconds_count", tenant="shop", stage="rank") == 2
    assert value(metrics, "recserv_degraded_total", tenant="shop", reason="stale_state") == 1
    assert value(metrics, "recserv_results_total", tenant="shop", source="covisitation") == 7
    assert value(metrics, "recserv_index_searches_total", tenant="shop") == 1


def test_events_are_counted_by_type_and_outcome_and_all_unknown_types_are_one() -> None:
    metrics = Metrics()
    events = EventMetrics(metrics)
    events.outcome(EventType.VIEW, "accepted")
    for number in range(1000, 1100):
        events.outcome(number, "invalid_input")
    events.outcome(EventType.VIEW, "accepted", 4)
    events.unknown_items(3)
    assert value(metrics, "recserv_events_total", tenant="default", type="view", outcome="accepted") == 5
    assert value(metrics, "recserv_events_total", tenant="default", type="unknown", outcome="invalid_input") == 100
    assert value(metrics, "recserv_unknown_items_total", tenant="default") == 3


def test_the_store_reports_commits_and_what_it_could_not_do() -> None:
    metrics = Metrics()
    metrics.commit(100, 0.004)
    metrics.store_unavailable(3, "disk_full")
    metrics.sessions_evicted(2)
    metrics.swept(ids=5, log_rows=0)
    assert value(metrics, "recserv_commit_events_sum") == 100
    assert value(metrics, "recserv_commit_duration_seconds_count") == 1
    assert value(metrics, "recserv_store_unavailable_events_total", cause="disk_full") == 3
    assert value(metrics, "recserv_sessions_evicted_total") == 2
    assert value(metrics, "recserv_store_swept_total", kind="ids") == 5


@pytest.mark.parametrize(
    ("name", "make", "held"),
    [
        ("recserv_python_blocks", object, 10_000),
        pytest.param(
            *("recserv_malloc_in_use_bytes", lambda: bytearray(5_000), 50_000_000),
            marks=pytest.mark.skipif(malloc_counter() is None, reason="the C library counts nothing"),
        ),
    ],
)
def test_allocator_metrics_rise_with_memory_held_and_fall_when_it_is_freed(
    name: str, make: Callable[[], object], held: int
) -> None:
    metrics = Metrics()

    def counted() -> float:
        found = value(metrics, name)
        assert found is not None
        return found

    gc.collect()
    before = counted()
    kept = [make() for _ in range(10_000)]
    holding = counted()
    assert holding - before >= 0.9 * held
    del kept
    assert counted() <= holding - 0.9 * held


def test_only_the_model_that_serves_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    metrics.model("v1", 1_000_000)
    metrics.model("v2", 2_000_000)
    monkeypatch.setattr("time.time", lambda: 2_060.0)
    assert value(metrics, "recserv_model_info", version="v1") is None
    assert value(metrics, "recserv_model_info", version="v2") == 1
    assert value(metrics, "recserv_model_age_seconds") == 60.0


def test_the_page_names_the_build_counts_dropped_lines_and_has_no_series_of_when() -> None:
    metrics = Metrics()
    metrics.rpc("Recommend")("OK", 0.1)
    metrics.watch(in_flight=lambda: 3, streams=lambda: 2, log_lines_dropped=lambda: 7)
    page = generate_latest(metrics.registry).decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    [build] = families["recserv_build_info"].samples
    assert build.value == 1
    assert build.labels == {
        "version": version("recserv"),
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
    }
    assert families["recserv_log_lines_dropped"].type == "counter"
    assert value(metrics, "recserv_log_lines_dropped_total") == 7
    assert "_created" not in page


@pytest.mark.parametrize("make", [Metrics, ParentMetrics])
def test_the_first_reload_is_an_increase_and_no_new_series(make: Callable[[], Metrics | ParentMetrics]) -> None:
    metrics = make()
    for outcome in ("loaded", "refused", "unchanged"):
        assert metrics.registry.get_sample_value("recserv_model_reloads_total", {"outcome": outcome}) == 0
    metrics.reload("refused")
    assert metrics.registry.get_sample_value("recserv_model_reloads_total", {"outcome": "refused"}) == 1
