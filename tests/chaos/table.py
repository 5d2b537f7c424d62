"""The suite's results as Markdown: a line for each run, and the short table that the README keeps.

runs -> detail    a row for each
     -> summary   a row for each fault: alone, and the worst of its pairs
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tests.chaos.rig import Result


class Row(NamedTuple):
    """One run; `faults` by name, none for the control."""

    faults: tuple[str, ...]
    result: Result


def detail(rows: Sequence[Row]) -> list[str]:
    return [
        "| faults | calls | failed | degraded, and why | p99 ms | normal after s | events refused / sent |",
        "|---|---|---|---|---|---|---|",
        *(_run(row) for row in rows),
    ]


def _run(row: Row) -> str:
    outcome, events = row.result.outcome, row.result.events
    return (
        f"| {' + '.join(row.faults) or 'none'} | {outcome.calls} | {outcome.failed} | {_degraded(row.result)} "
        f"| {_ms(outcome.p99_s)} | {_s(outcome.normal_after_s)} | {events.sent - events.acknowledged} / {events.sent} |"
    )


def summary(rows: Sequence[Row]) -> list[str]:
    """Pairs come in as the worst of them: the most failed calls, the highest p99, the slowest return."""
    lines = [
        "| fault | failed | degraded, and why | p99 ms | normal after s | pairs at worst: failed, p99, normal after |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if len(row.faults) > 1:
            continue
        outcome = row.result.outcome
        pairs = [
            other.result.outcome for other in rows if len(other.faults) > 1 and set(row.faults) & set(other.faults)
        ]
        worst = "-"
        if pairs:
            failed, p99_s = max(pair.failed for pair in pairs), max(pair.p99_s for pair in pairs)
            after_s = max((pair.normal_after_s for pair in pairs), key=lambda s: math.inf if math.isnan(s) else s)
            worst = f"{failed}, {_ms(p99_s)}, {_s(after_s)} (of {len(pairs)})"
        lines.append(
            f"| {' + '.join(row.faults) or 'none'} | {outcome.failed} | {_degraded(row.result)} | {_ms(outcome.p99_s)} "
            f"| {_s(outcome.normal_after_s)} | {worst} |"
        )
    return lines


def totals(rows: Sequence[Row]) -> str:
    """One sentence."""
    calls = sum(row.result.outcome.statuses.total() for row in rows)
    failed = sum(row.result.outcome.failed for row in rows)
    sent = sum(row.result.events.sent for row in rows)
    taken = sum(row.result.events.acknowledged for row in rows)
    wrong = sum(len(row.result.events.wrong) for row in rows)
    return (
        f"{len(rows)} runs, {calls:,} calls, {failed} failed; {sent:,} events, {taken:,} acknowledged, the others "
        f"UNAVAILABLE with a delay to retry after; lost, doubled or answered otherwise: {wrong}."
    )


def _degraded(result: Result) -> str:
    outcome = result.outcome
    why = ", ".join(sorted(outcome.reasons))
    return f"{outcome.degraded_share:.0%}: {why}" if outcome.reasons else "none"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def _s(seconds: float) -> str:
    return "never" if math.isnan(seconds) else f"{seconds:.1f}"
