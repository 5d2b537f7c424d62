"""What a run under a fault showed, from the calls one by one: pure functions over samples.

samples of the calls, when the fault began and ended -> Outcome -> broken promises, as sentences
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from recserv.bench.worker import OK, Sample

BUDGET_S = 0.2
"""The server's budget for a Recommend."""
NORMAL_AGAIN_S_MAX = 10.0
NORMAL_SPAN_S = 1.0
"""So long nothing is degraded before it counts as normal."""
LATE_S = 0.05
"""No dependency is left alone for being late before that. A label beside such a latency tells of a machine that stood
still for a moment, and it tells the truth; beside a smaller one it would have to be explained.
"""
LATE_SHARE_MAX = 0.02


class Outcome(NamedTuple):
    """`statuses` and `reasons` of all calls; `late` has the reasons of each degraded call that took LATE_S or longer;
    `calls`, `degraded` and `p99_s` are of those due while the fault was on; `normal_after_s` from its end, NaN if that
    was not seen.
    """

    calls: int
    statuses: Counter[str]
    degraded: int
    reasons: Counter[str]
    late: tuple[tuple[str, ...], ...]
    p99_s: float
    normal_after_s: float

    @property
    def failed(self) -> int:
        return self.statuses.total() - self.statuses[OK]

    @property
    def degraded_share(self) -> float:
        return self.degraded / self.calls if self.calls else math.nan


def quantile(values: Iterable[float], share: float) -> float:
    """The value that `share` of them do not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1] if ordered else math.nan


def outcome_of(samples: Sequence[Sample], began_s: float, ended_s: float) -> Outcome:
    """`samples` in the order in which they were due."""
    during = [sample for sample in samples if began_s <= sample.due_s < ended_s]
    degraded = [sample for sample in samples if sample.reasons]
    return Outcome(
        calls=len(during),
        statuses=Counter(sample.status for sample in samples),
        degraded=sum(bool(sample.reasons) for sample in during),
        reasons=Counter(reason for sample in degraded for reason in sample.reasons),
        late=tuple(sample.reasons for sample in degraded if sample.latency_s >= LATE_S),
        p99_s=quantile((sample.latency_s for sample in during), 0.99),
        normal_after_s=normal_after_s(samples, ended_s),
    )


def normal_after_s(samples: Sequence[Sample], ended_s: float) -> float:
    """From the fault's end until the first call after which all are OK and whole, if they were for NORMAL_SPAN_S."""
    after = [sample for sample in samples if sample.due_s >= ended_s]
    since_s = ended_s
    for sample, following in zip(after, [*after[1:], None], strict=True):
        if sample.reasons or sample.status != OK:
            since_s = math.inf if following is None else following.due_s
    if not after or after[-1].due_s - since_s < NORMAL_SPAN_S:
        return math.nan
    return max(0.0, since_s - ended_s)


def timeline(samples: Sequence[Sample], began_s: float) -> list[str]:
    """A line for each second of the run, 0 being when the fault began: for whoever must find out what happened."""
    seconds: dict[int, list[Sample]] = {}
    for sample in samples:
        seconds.setdefault(math.floor(sample.due_s - began_s), []).append(sample)
    return [
        f"{second:3d} s: {dict(Counter(sample.status for sample in due))}"
        f" {dict(Counter(reason for sample in due for reason in sample.reasons))}"
        f" slowest {max(sample.latency_s for sample in due) * 1000:.0f} ms"
        for second, due in sorted(seconds.items())
    ]


def broken_promises(
    outcome: Outcome, *, allowed: frozenset[str], expected: frozenset[str], control_p99_s: float
) -> list[str]:
    """Sentences; none if all was kept. `allowed` labels may appear, each of `expected` must."""
    broken = []
    if outcome.failed:
        failures = Counter({status: count for status, count in outcome.statuses.items() if status != OK})
        broken.append(f"{outcome.failed} calls failed: {dict(failures)}")
    strange = Counter(reason for reason in outcome.reasons.elements() if reason not in allowed)
    late = [reasons for reasons in outcome.late if not allowed.issuperset(reasons)]
    if quick := strange - Counter(reason for reasons in late for reason in reasons):
        broken.append(f"labelled with what was not broken: {dict(quick)}")
    if len(late) > LATE_SHARE_MAX * outcome.statuses.total():
        broken.append(f"{len(late)} calls were late without a fault to explain it: {dict(strange)}")
    if missing := {reason for reason in expected if reason not in outcome.reasons}:
        broken.append(f"the fault did not show: no answer was labelled {sorted(missing)}")
    limit_s = BUDGET_S + control_p99_s
    if not outcome.p99_s < limit_s:
        broken.append(f"p99 {outcome.p99_s * 1000:.0f} ms, not under {limit_s * 1000:.0f} ms")
    if not outcome.normal_after_s <= NORMAL_AGAIN_S_MAX:
        broken.append(f"not normal again within {NORMAL_AGAIN_S_MAX:g} s (after {outcome.normal_after_s:.1f} s)")
    return broken
