"""Several processes' metrics on one page."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from recserv.metrics import Metrics
from recserv.metrics.merge import OF_ALL, MergedMetrics, ParentMetrics, snapshot


def page(merged: MergedMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Samples by name and labels, read as Prometheus would; a page with a sample twice is none."""
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text_string_to_metric_families(generate_latest(merged.registry).decode()):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in samples
            samples[key] = sample.value
    return samples


def requests(merged: MergedMetrics) -> float:
    labels = (("rpc", "Recommend"), ("status", "OK"), ("tenant", "default"))
    return page(merged)["recserv_requests_total", labels]


def worker(calls: int) -> Metrics:
    metrics = Metrics()
    done = metrics.rpc("Recommend")
    for _ in range(calls):
        done("OK", 0.001)
    return metrics


def test_counters_and_histograms_are_summed_and_gauges_name_their_worker() -> None:
    merged = MergedMetrics()
    for slot, calls in ((1, 3), (2, 4)):
        metrics = worker(calls)
        metrics.watch(in_flight=lambda slot=slot: slot, streams=lambda: 0, log_lines_dropped=lambda: 0)
        merged.update(100 + slot, f"1-{slot}", snapshot(metrics.registry))
    samples = page(merged)
    assert requests(merged) == 7
    assert samples["recserv_request_duration_seconds_count", (("rpc", "Recommend"), ("tenant", "default"))] == 7
    bucket = ("le", "0.001"), ("rpc", "Recommend"), ("tenant", "default")
    assert samples["recserv_request_duration_seconds_bucket", bucket] == 7
    for slot in (1, 2):
        assert samples["recserv_in_flight_requests", (("worker", f"1-{slot}"),)] == slot
        assert samples["process_resident_memory_bytes", (("worker", f"1-{slot}"),)] > 0
    assert not any(name.endswith("_created") for name, _ in samples)


def test_counters_of_a_worker_outlive_it_and_its_gauges_do_not() -> None:
    merged = MergedMetrics()
    merged.update(101, "1-1", snapshot(worker(5).registry))
    merged.update(102, "1-2", snapshot(worker(1).registry))
    merged.retire(101)
    assert requests(merged) == 6
    # In the same place, a new process.
    merged.update(103, "1-1", snapshot(worker(2).registry))
    assert requests(merged) == 8
    merged.retire(103)
    merged.retire(102)
    merged.retire(102)
    assert requests(merged) == 8
    assert not any(name == "recserv_in_flight_requests" for name, _ in page(merged))


def test_two_processes_in_one_place_make_no_page_that_prometheus_refuses() -> None:
    merged = MergedMetrics()
    for key in (101, 102):
        merged.update(key, "1-1", snapshot(worker(1).registry))
    assert requests(merged) == 2


def test_the_parent_speaks_of_the_whole_server_and_of_itself() -> None:
    parent, merged = ParentMetrics(), MergedMetrics()
    parent.watch(lambda: 3)
    parent.reload("refused")
    parent.worker_exit("SIGKILL")
    metrics = worker(0)
    metrics.reload("loaded")
    merged.update(101, "1-1", snapshot(metrics.registry))
    merged.update(OF_ALL, "", snapshot(parent.registry))
    merged.update(100, "parent", snapshot(parent.process))
    samples = page(merged)
    assert samples["recserv_workers_ready", ()] == 3
    assert samples["recserv_worker_exits_total", (("cause", "SIGKILL"),)] == 1
    assert samples["recserv_model_reloads_total", (("outcome", "refused"),)] == 1
    assert samples["recserv_model_reloads_total", (("outcome", "loaded"),)] == 1
    assert samples["process_resident_memory_bytes", (("worker", "parent"),)] > 0


def test_a_scrape_refreshes_the_workers_figures_before_merging() -> None:
    merged = MergedMetrics(lambda: merged.update(1, "1-1", snapshot(worker(9).registry)))
    assert requests(merged) == 9


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=15))
def test_no_counter_ever_falls(steps: list[tuple[int, int]]) -> None:
    """Each step: a worker counts some calls and reports; 0 calls: it is killed and replaced."""
    merged = MergedMetrics()
    live = {slot: worker(0) for slot in range(4)}
    keys = dict.fromkeys(range(4), 0)
    merged.update(10, "1-0", snapshot(live[0].registry))
    total = seen = 0.0
    for slot, calls in steps:
        key = 10 * (slot + 1) + 1000 * keys[slot]
        if calls == 0:
            merged.retire(key)
            live[slot], keys[slot] = worker(0), keys[slot] + 1
            continue
        done = live[slot].rpc("Recommend")
        for _ in range(calls):
            done("OK", 0.001)
        total += calls
        merged.update(key, f"1-{slot}", snapshot(live[slot].registry))
        now = requests(merged)
        assert now >= seen
        assert now == total
        seen = now
