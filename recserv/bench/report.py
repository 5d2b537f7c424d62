"""A comparison as a table: milliseconds, and each of the server's figures as a ratio to the null handler's."""

from __future__ import annotations

import math
import os
import platform

import msgspec
from rich.console import Console
from rich.table import Table

from recserv.bench.compare import Comparison
from recserv.bench.histogram import Histogram
from recserv.bench.load import LoadOptions, LoadResult

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def print_report(console: Console, comparison: Comparison) -> None:
    console.print(_table(comparison))
    target = comparison.target
    if target.degraded:
        reasons = ", ".join(f"{count} {reason}" for reason, count in target.reasons.most_common())
        share = target.degraded / target.succeeded
        console.print(f"[yellow]degraded: {target.degraded} of {target.succeeded} ({share:.1%}): {reasons}[/yellow]")
    for name, result in (("recserv", target), ("null handler", comparison.null)):
        failures = [f"{count} {status}" for status, count in sorted(result.statuses.items()) if status != "OK"]
        if failures:
            console.print(f"[red]{name}: {', '.join(failures)}[/red]")
    console.print(
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs shared by server and load; both measured in turns. "
        "The ratios travel to another machine, the milliseconds do not.",
        style="dim",
    )


def _table(comparison: Comparison) -> Table:
    table = Table(title=describe(comparison.options), title_justify="left")
    table.add_column("")
    table.add_column("answers", justify="right")
    table.add_column("goodput/s", justify="right")
    for name in QUANTILES:
        table.add_column(f"{name} ms", justify="right")
    table.add_row("recserv", *_figures(comparison.target))
    table.add_row("null handler", *_figures(comparison.null))
    ratios = [_times(comparison.ratio(share)) for share in QUANTILES.values()]
    table.add_row("ratio", "", _times(_divide(comparison.target.rate_per_s, comparison.null.rate_per_s)), *ratios)
    return table


def describe(options: LoadOptions) -> str:
    """The load in words."""
    callers = f"{options.concurrency} outstanding over {options.connections} connection(s)"
    if options.rate_per_s is None:
        return f"Closed loop, {callers}"
    arrivals = "Poisson arrivals" if options.poisson else "even arrivals"
    return (
        f"Open loop at {options.rate_per_s:g} per second, {arrivals}, at most {callers}; latency from when each was due"
    )


def as_json(comparison: Comparison) -> bytes:
    """For programs: latencies in milliseconds, rejections under their own status."""
    document = {
        "load": {
            "loop": "closed" if comparison.options.rate_per_s is None else "open",
            "poisson": comparison.options.poisson,
            "rate_per_s": comparison.options.rate_per_s,
            "concurrency": comparison.options.concurrency,
            "connections": comparison.options.connections,
            "processes": comparison.options.processes,
            "timeout_s": comparison.options.timeout_s,
        },
        "recserv": _measured(comparison.target),
        "null": _measured(comparison.null),
        "ratio": {name: _number(comparison.ratio(share)) for name, share in QUANTILES.items()},
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def _measured(result: LoadResult) -> dict[str, object]:
    return {
        "goodput_per_s": result.rate_per_s,
        "statuses": dict(result.statuses),
        "degraded": result.degraded,
        "degraded_reasons": dict(result.reasons),
        "latency_ms": {
            status: {name: _number(span_s * 1000) for name, span_s in _spans(histogram).items()}
            for status, histogram in result.latencies_of.items()
        },
    }


def _spans(histogram: Histogram) -> dict[str, float]:
    """Seconds by the quantile's name."""
    return {name: histogram.max_s if share == 1.0 else histogram.quantile_s(share) for name, share in QUANTILES.items()}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _figures(result: LoadResult) -> list[str]:
    spans = _spans(result.latencies).values()
    return [f"{result.succeeded:,}", f"{result.rate_per_s:,.0f}", *(_milliseconds(span) for span in spans)]


def _milliseconds(span_s: float) -> str:
    return "-" if math.isnan(span_s) else f"{span_s * 1000:.2f}"


def _divide(above: float, below: float) -> float:
    return above / below if below else math.nan


def _times(ratio: float) -> str:
    return "-" if math.isnan(ratio) else f"{ratio:.2f} x"
