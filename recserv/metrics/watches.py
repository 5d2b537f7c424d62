"""Metrics of watches, for one tenant."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from recserv.types import DEFAULT_TENANT

OUTCOMES = ("sent", "unchanged", "postponed", "coalesced")


class WatchMetrics:
    """`count` takes one of OUTCOMES and a number."""

    def __init__(self, registry: CollectorRegistry, tenant: str = DEFAULT_TENANT):
        self._open = Gauge("recserv_open_watches", "Open WatchRecommendations calls.", registry=registry)
        looks = Counter(
            "recserv_watch_looks",
            "Looks of watches: answers sent, those unchanged, those postponed for want of room or state, and changes"
            " that were coalesced with a look still to come.",
            ["tenant", "outcome"],
            registry=registry,
        )
        self._count = {outcome: looks.labels(tenant, outcome).inc for outcome in OUTCOMES}

    def count(self, outcome: str, number: int = 1) -> None:
        self._count[outcome](number)

    def watch(self, open_watches: Callable[[], int]) -> None:
        """What is read when somebody looks."""
        self._open.set_function(open_watches)
