"""What the status page shows, computed from samples of /metrics: rates of the last minute, quantiles of what that
minute added to the histograms, and the latest gauges.

Counters and histograms of several servers are added up; a counter that fell was reset to 0 (a restart). Gauges and
facts stay with their server and process.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

WINDOW_S = 60.0
COUNTERS = frozenset(
    {
        *("recserv_requests_total", "recserv_results_total", "recserv_degraded_total", "recserv_shed_calls_total"),
        *("recserv_request_duration_seconds_bucket", "recserv_stage_duration_seconds_bucket"),
        *("recserv_request_duration_seconds_count", "recserv_stage_duration_seconds_count"),
        *("recserv_events_total", "recserv_store_unavailable_events_total"),
    }
)
GAUGES = frozenset(
    {
        *("recserv_model_info", "recserv_model_age_seconds", "recserv_breaker_state", "recserv_workers_ready"),
        *("recserv_in_flight_requests", "recserv_waiting_calls", "recserv_concurrency_limit", "recserv_build_info"),
        *("process_resident_memory_bytes", "process_start_time_seconds"),
    }
)
WANTED = COUNTERS | GAUGES

Key = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and its labels, sorted."""


class Sample(NamedTuple):
    """`at_s`: monotonic. `round`: the number of the round in which all servers were asked."""

    at_s: float
    values: Mapping[Key, float]
    round: int


class Seen(NamedTuple):
    """The samples of one server. `problem`: why the newest round has none of it; empty if it has one."""

    address: str
    samples: tuple[Sample, ...]
    problem: str


class Histogram(NamedTuple):
    """What was added to it per second: observations, and `(upper bound, observations up to it)` in ascending order."""

    per_s: float
    buckets: tuple[tuple[float, float], ...]

    def quantile(self, share: float) -> float:
        """As Prometheus's histogram_quantile: linear within a bucket, the last bound beyond it, NaN if it is empty."""
        total = self.buckets[-1][1] if self.buckets else 0.0
        if not total > 0:
            return math.nan
        wanted, lower, below = share * total, 0.0, 0.0
        for upper, count in self.buckets:
            if count >= wanted and count > below:
                return lower if math.isinf(upper) else lower + (upper - lower) * (wanted - below) / (count - below)
            lower, below = (lower if math.isinf(upper) else upper), max(below, count)
        return lower


class Rates:
    """Per second, over the samples that there are; a server with only one sample has no rates yet."""

    def __init__(self, seen: Iterable[Seen]):
        self._per_s: defaultdict[Key, float] = defaultdict(float)
        self.seconds = 0.0
        for one in seen:
            seconds = one.samples[-1].at_s - one.samples[0].at_s if one.samples else 0.0
            if seconds > 0:
                self.seconds = max(self.seconds, seconds)
                for key, grown in _growth(one.samples).items():
                    self._per_s[key] += grown / seconds

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Summed by these labels, the largest first."""
        found: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for (sample, given), per_s in self._per_s.items():
            if sample == name:
                values = dict(given)
                found[tuple(values.get(label, "") for label in labels)] += per_s
        return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0])))

    def total(self, name: str, **labels: str) -> float:
        wanted = labels.items()
        return sum(per_s for (sample, given), per_s in self._per_s.items() if sample == name and wanted <= set(given))

    def histograms(self, name: str, label: str) -> dict[str, Histogram]:
        """By the values of one label, in alphabetical order."""
        bounds: defaultdict[str, dict[float, float]] = defaultdict(dict)
        for (value, bound), per_s in self.by(f"{name}_bucket", label, "le").items():
            bounds[value][_bound(bound)] = per_s
        counts = {value: per_s for (value,), per_s in self.by(f"{name}_count", label).items()}
        return {
            value: Histogram(counts.get(value, 0.0), tuple(sorted(bounds[value].items()))) for value in sorted(bounds)
        }


def _bound(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # Not a bound, so nothing is known to lie below it.
        return math.inf


def _growth(samples: tuple[Sample, ...]) -> dict[Key, float]:
    """Of the counters. One that the earlier sample did not have has started at 0 since then."""
    grown: defaultdict[Key, float] = defaultdict(float)
    for before, after in pairwise(samples):
        for key, value in after.values.items():
            if key[0] in COUNTERS:
                was = before.values.get(key, 0.0)
                step = value - was if value >= was else value
                grown[key] += step if math.isfinite(step) else 0.0
    return grown


def gauges(seen: Seen, name: str) -> list[tuple[dict[str, str], float]]:
    """Labels and value in the newest sample."""
    newest = seen.samples[-1].values if seen.samples else {}
    return [(dict(labels), value) for (sample, labels), value in newest.items() if sample == name]


def requests_over_time(seen: Iterable[Seen]) -> list[tuple[float, float]]:
    """For each round: seconds relative to the newest sample (0 or less), requests a second over all servers."""
    per_s: defaultdict[int, float] = defaultdict(float)
    ended_s: dict[int, float] = {}
    for one in seen:
        for before, after in pairwise(one.samples):
            grown = sum(value for key, value in _growth((before, after)).items() if key[0] == "recserv_requests_total")
            # Also for the rounds in between, in which this server did not answer.
            for number in range(before.round + 1, after.round + 1):
                per_s[number] += grown / (after.at_s - before.at_s or WINDOW_S)
            ended_s[after.round] = max(after.at_s, ended_s.get(after.round, after.at_s))
    newest_s = max(ended_s.values(), default=0.0)
    return [(ended_s[number] - newest_s, per_s[number]) for number in sorted(ended_s)]
