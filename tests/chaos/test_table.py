from __future__ import annotations

import math
from collections import Counter

from tests.chaos.events import EventsSent
from tests.chaos.measure import Outcome
from tests.chaos.rig import Result
from tests.chaos.table import Row, detail, summary, totals


def _row(*faults: str, p99_s: float = 0.01, failed: int = 0, after_s: float = 1.0) -> Row:
    statuses = Counter(OK=250 - failed, UNAVAILABLE=failed)
    reasons = Counter(STATE_UNAVAILABLE=125) if faults else Counter[str]()
    outcome = Outcome(250, statuses, 125 if faults else 0, reasons, (), p99_s, after_s)
    return Row(faults, Result(outcome, EventsSent(100, 60, Counter(UNAVAILABLE=40), []), [], 0.0))


ROWS = [_row(), _row("a"), _row("b"), _row("c"), _row("a", "b", p99_s=0.2), _row("a", "c", failed=2, after_s=math.nan)]


def test_a_row_for_each_fault_holds_the_worst_of_its_pairs() -> None:
    assert summary(ROWS)[2:] == [
        "| none | 0 | none | 10 | 1.0 | - |",
        "| a | 0 | 50%: STATE_UNAVAILABLE | 10 | 1.0 | 2, 200, never (of 2) |",
        "| b | 0 | 50%: STATE_UNAVAILABLE | 10 | 1.0 | 0, 200, 1.0 (of 1) |",
        "| c | 0 | 50%: STATE_UNAVAILABLE | 10 | 1.0 | 2, 10, never (of 1) |",
    ]


def test_a_row_for_each_run() -> None:
    lines = detail(ROWS)
    assert len(lines) == len(ROWS) + 2
    assert lines[-1] == "| a + c | 250 | 2 | 50%: STATE_UNAVAILABLE | 10 | never | 40 / 100 |"


def test_totals_add_up_runs_calls_and_events() -> None:
    assert totals(ROWS).startswith("6 runs, 1,500 calls, 2 failed; 600 events, 360 acknowledged")
