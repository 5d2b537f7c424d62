"""What the HTTP listener answers to Prometheus, to probes, and to anybody else."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from recserv.errors import UsageError
from recserv.metrics import Metrics
from recserv.metrics.listener import MetricsListener
from tests.patience import HANG_GUARD_S


class Served:
    def __init__(self) -> None:
        self.serving = True
        self.metrics = Metrics()
        self.listener = MetricsListener(self.metrics, "127.0.0.1", 0, lambda: self.serving)

    def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.listener.address, timeout=HANG_GUARD_S)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.listener.close()


def test_metrics_are_prometheus_text_until_the_listener_is_closed() -> None:
    served = Served()
    served.metrics.watch(in_flight=lambda: 3, streams=lambda: 2, log_lines_dropped=lambda: 0)
    status, page = served.ask("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert status == 200
    assert families["recserv_in_flight_requests"].samples[0].value == 3
    assert "process_resident_memory_bytes" in families
    served.listener.close()
    with pytest.raises(OSError):
        served.ask("/metrics")


def test_health_is_200_while_the_server_serves_and_503_else(served: Served) -> None:
    assert served.ask("/healthz") == (200, "serving\n")
    served.serving = False
    assert served.ask("/healthz") == (503, "not serving\n")
    assert served.ask("/healthz", "HEAD") == (503, "")


@pytest.mark.parametrize("path", ["/", "/anything", "/metrics/", "/healthz/x", "/favicon.ico", "/health"])
def test_no_probe_of_another_path_passes(served: Served, path: str) -> None:
    status, text = served.ask(path)
    assert status == 404
    assert "recserv_" not in text


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_a_post_to_the_metrics_listener_is_405(served: Served, path: str) -> None:
    assert served.ask(path, "POST")[0] == 405


def test_an_address_that_is_taken_is_told_with_the_setting_that_moves_it(served: Served) -> None:
    port = int(served.listener.address.rpartition(":")[2])
    with pytest.raises(UsageError, match=r"--metrics-listen .RECSERV_METRICS_LISTEN., or `off`"):
        MetricsListener(Metrics(), "127.0.0.1", port)
