"""What the rows of the dashboard are made of: panels, and the queries that most of them ask.

Every query is for the servers and the tenants that are chosen above the panels. A gauge is of a process: the worker
stands in its legend where a server has several.
"""

from __future__ import annotations

from typing import NamedTuple

OF_TENANT = 'instance=~"$instance",tenant=~"$tenant"'
OF_SERVER = 'instance=~"$instance"'
PROCESS = "{{instance}} {{worker}}"


class Query(NamedTuple):
    expr: str
    legend: str


class Panel(NamedTuple):
    """`unit`: one of Grafana's names of units. `width`: of 24 columns. `stacked`: the series are parts of a whole."""

    title: str
    text: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 12
    kind: str = "timeseries"
    stacked: bool = False
    red_from: float | None = None


class Row(NamedTuple):
    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str, where: str = OF_TENANT) -> str:
    """Per second, summed."""
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


def rates(metric: str, by: str, where: str = OF_TENANT, legend: str = "") -> Query:
    return Query(rate(metric, by, where), legend or " ".join(f"{{{{{name.strip()}}}}}" for name in by.split(",")))


def increases(metric: str, by: str, legend: str) -> Query:
    """How many, in the time of a point."""
    return Query(f"sum by ({by}) (increase({metric}{{{OF_SERVER}}}[$__rate_interval]))", legend)


def quantiles(metric: str, where: str = OF_TENANT) -> tuple[Query, ...]:
    """The usual one and the slow one."""
    return tuple(
        Query(f"histogram_quantile({quantile}, {rate(f'{metric}_bucket', 'le', where)})", name)
        for name, quantile in (("p50", 0.5), ("p99", 0.99))
    )


def one_quantile(quantile: float, metric: str, by: str, where: str = OF_TENANT) -> tuple[Query, ...]:
    return (Query(f"histogram_quantile({quantile}, {rate(f'{metric}_bucket', f'le, {by}', where)})", f"{{{{{by}}}}}"),)


def gauge(metric: str, legend: str = PROCESS) -> Query:
    return Query(f"{metric}{{{OF_SERVER}}}", legend)
