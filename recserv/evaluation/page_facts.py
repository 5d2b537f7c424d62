"""The sentences on the page of an evaluation: how and on what it was measured, and how it compares."""

from __future__ import annotations

import time

from recserv.evaluation.figures import EvaluationReport
from recserv.evaluation.target_kinds import RARE_SESSIONS


def times_better(report: EvaluationReport) -> str:
    """Beside popularity and the best source alone, as the end of a sentence."""
    if not report.sources:
        return ""
    whole = report.at[-1].hit_rate.value
    popular = next((one.at[-1].hit_rate.value for one in report.sources if one.name == "popular"), 0.0)
    best = max(report.sources, key=lambda one: one.at[-1].hit_rate.value)
    said = f", {whole / popular:.1f} times as often as with the most popular items" if popular else ""
    less = best.hit_rate_less
    if less.low > 0:
        return f"{said} and more often than by any part alone"
    if less.high < 0:
        return f"{said}, but less often than by one part alone"
    return f"{said}; the best part alone is as good, as far as so many sessions can tell"


def measured_text(report: EvaluationReport) -> str:
    said = (
        "Each question is a session up to some item, sent through the code that serves as that of an unknown shopper"
        " who viewed those items; the answer is the item that came next. Every item is a candidate, also those that the"
        " session has had. An answer beyond the end of the list counts nothing."
    )
    held = report.held
    if held is not None and held.sessions_without_order:
        share = held.sessions_without_order / max(held.sessions_asked, 1)
        whose = "The sessions here" if share > 0.95 else f"{share:.0%} of the sessions here"
        said += (
            f" {whose} have no order: instead of a next item, items are left out of a basket in turn, and the others"
            " are sent in random order."
        )
    return said + (
        " Questions about one session are no independent evidence: intervals count sessions. Few sessions of the model"
        f" are fewer than {RARE_SESSIONS}."
    )


def facts(report: EvaluationReport) -> list[tuple[str, str]]:
    found = [("Model", report.model_version)]
    training, data, held = report.training, report.data, report.held
    if training is not None:
        span = _span(training.first_event_ms, training.last_event_ms)
        found.append(
            (
                "Built from",
                f"{training.events:,} events in {training.sessions:,} sessions{span}, mostly items {report.behaviour}",
            )
        )
        found.append(("Its items", f"{report.items:,}"))
    if data is not None and data.rows_bad:
        found.append(("Bad rows", f"{data.rows_bad:,} of {data.rows_read:,} rows read"))
    if data is not None and data.rows_by_rule:
        found.append(("Left out", "; ".join(f"{one.count:,} rows if {one.rule}" for one in data.rows_by_rule)))
    asked = f"{report.overall.count:,} about {report.sessions:,} sessions, in {report.file}"
    found.append(("Questions", asked))
    if held is not None:
        span = _span(held.first_end_ms, held.last_end_ms)
        found.append(("Held out", f"{held.chosen}: {held.sessions:,} sessions of {', '.join(held.events)}{span}"))
    if data is not None and data.ties is not None:
        used = "is used" if data.ties.kept else "is not used"
        share = f"{data.ties.share:.0%} of the sessions have lines that share one time"
        found.append(("Order", f"{share}; the order of their rows {used}"))
    return found


def _span(first_ms: int | None, last_ms: int | None) -> str:
    return "" if first_ms is None or last_ms is None else f", {_day(first_ms)} to {_day(last_ms)}"


def _day(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time_ms / 1000))
