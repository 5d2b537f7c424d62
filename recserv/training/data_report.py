"""The report of what was read, made once events and catalogue are there; and whether the two belong together."""

from __future__ import annotations

import numpy as np

from recserv.errors import DatasetError
from recserv.model.data_report import CatalogMatch, DataReport, LopsidedSession
from recserv.training.catalog import Catalog
from recserv.training.dataset import EventLog
from recserv.training.notes import Notes, findings
from recserv.training.problems import BadRows

MATCH_MIN = 0.5
"""Of the events' items in the catalogue; below it the two do not belong together."""
SAMPLES = 5
_SAMPLES_BELOW = 0.95
_LOPSIDED_SHARE = 0.01
_LOPSIDED_EVENTS_MIN = 10
_LOPSIDED_TIMES = 5
_LOPSIDED_SHOWN = 5


def data_report(
    log: EventLog,
    catalog: Catalog | None,
    notes: Notes,
    of_catalog: Notes,
    problems: BadRows,
    *,
    same_file: bool = False,
) -> DataReport:
    """`notes` of the events, `of_catalog` of the catalogue; rows are counted of the events alone. `same_file`: the
    catalogue is read from the events' own file, so a column that either uses is used.
    """
    unused = list(dict.fromkeys(notes.unused_columns() + of_catalog.unused_columns()))
    if same_file:
        unused = [name for name in notes.unused_columns() if name in of_catalog.unused_columns()]
    counts = np.bincount(log.session, minlength=log.session_count)
    counts = counts[: log.session_count]
    bad = findings(problems.report())
    broken = sum(found.count for found in bad if not found.column)  # Never became a row of a table.
    return DataReport(
        files=notes.files + of_catalog.files,
        rows_read=notes.rows_read + broken,
        rows_bad=problems.total,
        rows_blank=notes.rows_blank + of_catalog.rows_blank,
        rows_without_item=notes.rows_without_item + of_catalog.rows_without_item,
        rows_ignored=notes.rows_ignored,
        duplicate_events=log.duplicates,
        events=len(log),
        order="file" if log.time_ms is None else "time",
        first_event_ms=None if log.time_ms is None else int(log.time_ms.min()),
        last_event_ms=None if log.time_ms is None else int(log.time_ms.max()),
        event_names=notes.event_names(),
        bad_rows=bad,
        values_left_out=notes.values_left_out() + of_catalog.values_left_out(),
        unused_columns=tuple(unused),
        notes=(*notes.remarks, *notes.of_amounts(), *of_catalog.remarks),
        rows_by_rule=notes.rule_counts(),
        sessions=int(np.count_nonzero(counts)),
        sessions_with_several=int(np.count_nonzero(counts > 1)),
        lopsided_sessions=_lopsided(log, counts),
        catalog=None if catalog is None else _match(log, catalog),
    )


def _lopsided(log: EventLog, counts: np.ndarray) -> tuple[LopsidedSession, ...]:
    """Those that hold more than a hundredth of all events and many times what is usual."""
    if log.session_ids is None:
        return ()
    usual = float(np.median(counts[counts > 0]))
    least = max(_LOPSIDED_SHARE * len(log), _LOPSIDED_EVENTS_MIN, _LOPSIDED_TIMES * usual)
    found = np.flatnonzero(counts > least)
    found = found[np.argsort(-counts[found], kind="stable")][:_LOPSIDED_SHOWN]
    return tuple(LopsidedSession(log.session_ids[int(code)].as_py(), int(counts[code])) for code in found)


def _match(log: EventLog, catalog: Catalog) -> CatalogMatch:
    known = set(catalog.ids)
    inside = np.array([item_id in known for item_id in log.item_ids], bool)
    events = np.bincount(log.item[log.item >= 0], minlength=len(inside))[: len(inside)]
    share = float(events[inside].sum() / max(events.sum(), 1))
    outside = np.flatnonzero(~inside)
    outside = outside[np.argsort(-events[outside], kind="stable")]
    seen = set(log.item_ids)
    lacking = [item_id for item_id in catalog.ids if item_id not in seen]
    low = share < _SAMPLES_BELOW
    return CatalogMatch(
        items=len(catalog),
        items_without_events=len(lacking),
        items_outside=len(outside),
        events_share=share,
        outside_samples=tuple(log.item_ids[code] for code in outside[:SAMPLES]) if low else (),
        catalog_samples=tuple(lacking[:SAMPLES]) if low else (),
    )


def refuse_strangers(report: DataReport, path: str) -> None:
    """Raises DatasetError where most events are of items that the catalogue does not have."""
    match = report.catalog
    if match is None or match.events_share >= MATCH_MIN:
        return
    raise DatasetError(
        path,
        f"only {match.events_share:.0%} of the events have an item of the catalogue."
        f" Items of the events: {_listed(match.outside_samples)}; of the catalogue: {_listed(match.catalog_samples)}."
        " --allow-unknown-items builds all the same",
    )


def _listed(ids: tuple[str, ...]) -> str:
    return ", ".join(map(repr, ids)) or "none besides"
