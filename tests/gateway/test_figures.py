"""Rates, quantiles and gauges from samples of /metrics, by hand-made samples."""

from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from recserv.gateway.figures import WANTED, WINDOW_S, Key, Rates, Sample, Seen, gauges, requests_over_time
from recserv.gateway.scrapes import Unreadable, values_of
from recserv.metrics import Metrics
from recserv.metrics.merge import ParentMetrics
from recserv.resilience.metrics import OverloadMetrics, ResilienceMetrics
from tests.dashboard.exposed import families


def requests(status: str = "OK", rpc: str = "Recommend") -> Key:
    return "recserv_requests_total", (("rpc", rpc), ("status", status), ("tenant", "default"))


def seen(*samples: tuple[float, dict[Key, float]], address: str = "a:1") -> Seen:
    return Seen(address, tuple(Sample(at_s, values, round(at_s)) for at_s, values in samples), "")


def test_a_rate_is_what_was_added_over_the_time_that_there_are_samples_of() -> None:
    rates = Rates([seen((10.0, {requests(): 100.0}), (20.0, {requests(): 300.0}), (30.0, {requests(): 400.0}))])
    assert rates.seconds == 20.0
    assert rates.by("recserv_requests_total", "rpc", "status") == {("Recommend", "OK"): 15.0}
    assert rates.total("recserv_requests_total", status="OK") == 15.0
    assert rates.total("recserv_requests_total", status="INTERNAL") == 0.0


def test_one_sample_has_no_rate() -> None:
    for one in (seen(), seen((10.0, {requests(): 100.0}))):
        assert (Rates([one]).seconds, Rates([one]).total("recserv_requests_total")) == (0.0, 0.0)


def test_a_counter_that_fell_began_anew_and_one_that_is_new_began_at_0() -> None:
    rates = Rates([seen((0.0, {requests(): 100.0}), (10.0, {requests(): 30.0, requests("INTERNAL"): 5.0}))])
    assert rates.by("recserv_requests_total", "status") == {("OK",): 3.0, ("INTERNAL",): 0.5}


def test_servers_are_added_up_each_over_its_own_time() -> None:
    one = seen((0.0, {requests(): 0.0}), (10.0, {requests(): 100.0}))
    other = seen((8.0, {requests(): 0.0}), (10.0, {requests(): 10.0}), address="b:1")
    assert Rates([one, other, seen(address="c:1")]).total("recserv_requests_total") == 15.0


def test_requests_over_time_go_from_the_oldest_step_to_now() -> None:
    one = seen((0.0, {requests(): 0.0}), (2.0, {requests(): 20.0}), (4.0, {requests(): 24.0}))
    other = seen((2.0, {requests(): 0.0}), (4.0, {requests(): 2.0}), address="b:1")
    assert requests_over_time([one, other]) == [(-2.0, 10.0), (0.0, 3.0)]
    at_once = Seen("a:1", (Sample(1.0, {requests(): 0.0}, 1), Sample(1.0, {requests(): 9.0}, 2)), "")
    assert requests_over_time([at_once]) == [(0.0, 9.0 / WINDOW_S)]
    assert requests_over_time([seen(), seen((1.0, {}))]) == []


def test_requests_of_a_server_that_missed_rounds_stand_where_they_were() -> None:
    samples = [(float(at_s), {requests(): 10.0 * at_s}) for at_s in range(6)]
    answering, gone, away = (
        seen(*kept, address=address)
        for address, kept in (("a:1", samples), ("b:1", samples[:3]), ("c:1", [samples[0], *samples[4:]]))
    )
    assert [per_s for _, per_s in requests_over_time([answering, gone])] == [20.0, 20.0, 10.0, 10.0, 10.0]
    assert [at_s for at_s, _ in requests_over_time([gone, answering])] == [-4.0, -3.0, -2.0, -1.0, 0.0]
    assert [per_s for _, per_s in requests_over_time([answering, away])] == [20.0] * 5


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_no_numbers_count_as_nothing(value: float) -> None:
    rates = Rates([seen((0.0, {requests(): value}), (10.0, {requests(): value}))])
    assert rates.total("recserv_requests_total") == 0.0


def page(registry: CollectorRegistry) -> dict[Key, float]:
    return values_of(generate_latest(registry))


def test_quantiles_are_of_what_was_added_and_not_of_what_was_there() -> None:
    registry = CollectorRegistry()
    name, bounds = "recserv_stage_duration_seconds", (0.001, 0.01, 0.1)
    stage = Histogram(name, "", ("tenant", "stage"), buckets=bounds, registry=registry).labels("default", "rank")
    for _ in range(1_000):
        stage.observe(5.0)
    before = page(registry)
    for _ in range(90):
        stage.observe(0.0005)
    for _ in range(10):
        stage.observe(0.05)
    found = Rates([seen((0.0, before), (10.0, page(registry)))]).histograms("recserv_stage_duration_seconds", "stage")
    assert list(found) == ["rank"]
    assert found["rank"].per_s == 10.0
    assert found["rank"].quantile(0.45) == pytest.approx(0.0005)
    assert found["rank"].quantile(0.95) == pytest.approx(0.055)
    for _ in range(900):
        stage.observe(5.0)
    found = Rates([seen((0.0, before), (10.0, page(registry)))]).histograms("recserv_stage_duration_seconds", "stage")
    assert found["rank"].quantile(0.99) == 0.1


def test_a_histogram_to_which_nothing_was_added_has_no_quantile() -> None:
    metrics = Metrics()
    metrics.rpc("Recommend")("OK", 0.002)
    values = page(metrics.registry)
    found = Rates([seen((0.0, values), (1.0, values))]).histograms("recserv_request_duration_seconds", "rpc")
    assert math.isnan(found["Recommend"].quantile(0.5))


def test_gauges_are_as_they_were_last() -> None:
    metrics = Metrics()
    metrics.model("v1", 1_000)
    first = page(metrics.registry)
    metrics.model("v2", 2_000)
    one = seen((0.0, first), (1.0, page(metrics.registry)))
    assert gauges(one, "recserv_model_info") == [({"version": "v2"}, 1.0)]
    assert gauges(seen(), "recserv_model_info") == []


def test_every_metric_of_the_page_is_one_that_a_server_has() -> None:
    metrics, parent = Metrics(), ParentMetrics()
    ResilienceMetrics(metrics.registry)
    OverloadMetrics(metrics.registry)
    names = {name for registry in (metrics.registry, parent.registry) for name, _, _ in families(registry)}
    endings = ("_total", "_bucket", "_count")
    assert {name for name in WANTED if not names & {name, *(name.removesuffix(end) for end in endings)}} == set()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no metrics"),
        (b"go_threads 9\n", "no metrics"),
        (b"<html>recserv_requests_total", "something else"),
        (b"\xff\xfe", "something else"),
        (b'recserv_requests_total{rpc="x} 1\n', "something else"),
        (b"recserv_requests_total many\n", "something else"),
        (b"".join(b'recserv_requests_total{rpc="%d"} 1\n' % n for n in range(5_001)), "more than 5000"),
    ],
)
def test_what_is_no_page_of_metrics_is_said_so(text: bytes, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        values_of(text)
