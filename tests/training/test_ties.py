"""Baskets whose lines share one time: whether the order of their rows counts is found out, said, or told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recserv.commands.data_report import tie_text
from recserv.model.data_report import TriedOrder
from recserv.training import ties
from recserv.training.dataset import EventLog
from recserv.training.options import BuildOptions
from recserv.training.sessions import build_sessions, tied_sessions
from recserv.training.ties import settle_ties
from recserv.types import EventType

OPTIONS = BuildOptions(events=("made up",), out="", dimensions=8)
ITEMS = 60


def baskets(
    count: int = 40, *, size: int = 5, kind: EventType = EventType.PURCHASE, ascending: bool = False, spread_ms: int = 0
) -> EventLog:
    """Every basket holds neighbours on a ring of items; `spread_ms`: between its lines."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, ITEMS - size, count)
    lines = starts[:, None] + (np.arange(size) if ascending else np.stack([rng.permutation(size) for _ in starts]))
    session = np.repeat(np.arange(count, dtype=np.int32), size)
    return EventLog(
        item_ids=[f"{code:03d}" for code in range(ITEMS)],
        session_count=count,
        session=session,
        item=lines.ravel().astype(np.int32),
        event_type=np.full(count * size, kind, np.uint8),
        time_ms=session.astype(np.int64) * 60_000 + np.tile(np.arange(size), count) * spread_ms,
    )


def unordered(log: EventLog) -> int:
    return int(build_sessions(log, np.arange(ITEMS, dtype=np.int32), seed=0).unordered.sum())


@pytest.fixture
def no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    def tried(*_: object) -> None:
        raise AssertionError("nothing to try")

    monkeypatch.setattr(ties, "_tried", tried)


@pytest.mark.usefixtures("no_trial")
def test_rows_that_are_plainly_sorted_by_item_are_no_order_and_need_no_trial() -> None:
    settled, report = settle_ties(baskets(ascending=True), OPTIONS)
    assert report is not None
    assert (report.reason, report.kept, report.share) == ("sorted", False, 1.0)
    assert unordered(settled) == 40
    assert "is not used" in tie_text(report)
    untimed, report = settle_ties(replace(baskets(ascending=True), time_ms=None), OPTIONS)
    assert report is not None
    assert report.reason == "sorted"
    assert unordered(untimed) == 40


@pytest.mark.usefixtures("no_trial")
def test_views_of_one_time_are_in_the_order_of_their_rows() -> None:
    settled, report = settle_ties(baskets(kind=EventType.VIEW), OPTIONS)
    assert report is not None
    assert (report.reason, report.kept) == ("rule", True)
    assert unordered(settled) == 0


@pytest.mark.usefixtures("no_trial")
@pytest.mark.parametrize("log", [baskets(spread_ms=1000), replace(baskets(), time_ms=None)])
def test_where_lines_have_times_of_their_own_or_none_at_all_there_is_nothing_to_say(log: EventLog) -> None:
    settled, report = settle_ties(log, OPTIONS)
    assert report is None
    assert unordered(settled) == 0


@pytest.mark.usefixtures("no_trial")
@pytest.mark.parametrize(("told", "loose"), [("file", 0), ("none", 40)])
def test_ties_told_by_option_skip_the_trial(told: str, loose: int) -> None:
    settled, report = settle_ties(baskets(), replace(OPTIONS, ties=told))
    assert report is not None
    assert (report.reason, report.kept) == ("told", told == "file")
    assert unordered(settled) == loose


@pytest.mark.parametrize(
    ("in_file", "no_order", "kept"),
    [
        (TriedOrder(0.43, 0.31), TriedOrder(0.39, 0.37), False),  # The order is worth less than what it costs.
        (TriedOrder(0.50, 0.36), TriedOrder(0.30, 0.35), True),
    ],
)
def test_the_order_is_kept_if_its_worse_case_is_the_better_one(
    monkeypatch: pytest.MonkeyPatch, in_file: TriedOrder, no_order: TriedOrder, kept: bool
) -> None:
    monkeypatch.setattr(ties, "_tried", lambda *_: (in_file, no_order))
    settled, report = settle_ties(baskets(), OPTIONS)
    assert report is not None
    assert (report.reason, report.kept) == ("tried", kept)
    assert unordered(settled) == (0 if kept else 40)
    assert f"{in_file.asked_in_random_order:.3f}" in tie_text(report)


def test_both_ways_are_asked_the_same_questions_in_both_orders() -> None:
    log = baskets(1_300)
    settled, report = settle_ties(log, replace(OPTIONS, epochs=0.2))
    assert report is not None
    assert report.file_order is not None
    assert report.no_order is not None
    # Rows in a random order: no order is worth nothing, so the four figures are near each other.
    figures = [*_figures(report.file_order), *_figures(report.no_order)]
    assert min(figures) > 0.5
    assert max(figures) - min(figures) < 0.25
    assert settle_ties(log, replace(OPTIONS, epochs=0.2))[1] == report
    assert settled.ties == ("file" if report.kept else "none")


def _figures(tried: TriedOrder) -> tuple[float, float]:
    return tried.asked_in_file_order, tried.asked_in_random_order


def test_too_few_sessions_to_try_have_no_order_and_say_so() -> None:
    settled, report = settle_ties(baskets(), OPTIONS)
    assert report is not None
    assert (report.reason, report.kept) == ("rule", False)
    assert unordered(settled) == 40
    assert tied_sessions(settled).sessions == 40
