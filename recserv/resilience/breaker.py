"""Circuit breaker: after too many failed or slow calls, a dependency is not called for a while, then probed.

    CLOSED     calls pass; the last `sliding_window_size` results are kept. From `minimum_number_of_calls` results on, a
               failure rate or a slow-call rate at its threshold opens the breaker.
    OPEN       calls are refused for `wait_duration_in_open_state_s`, spread by a jitter.
    HALF_OPEN  the first call after the wait; `permitted_calls_in_half_open_state` probes pass, the others are refused.
               Enough results decide by the same thresholds: OPEN again, or CLOSED with an empty window. If they do not
               come within `max_wait_duration_in_half_open_state_s`, OPEN again.

Vocabulary and semantics are Resilience4j's (count-based sliding window, no automatic transition from open), but for two
points: a result that belongs to an earlier state is ignored, and the time in half-open always has a bound.

A pure state machine: it never waits, belongs to one thread, and takes its clock and random source as arguments. Usage:

    permit = breaker.acquire()
    if not permit:
        ...                                     # refused: fall back
    elif it worked:    breaker.succeed(permit, duration_s)
    elif it failed:    breaker.fail(permit, duration_s)
    else:              breaker.release(permit)  # cancelled, or the caller's own fault: no sign of the dependency

Every permit is settled exactly once, whatever happens in between. A probe settled twice counts once.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum

import msgspec

from recserv.resilience.deadline import MonotonicClock

REFUSED = 0
"""What `acquire` gives when the call is not permitted; every permit is true."""

_FAILED, _SLOW = 1, 2


class BreakerState(IntEnum):
    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class BreakerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Rates are shares, above 0 and at most 1; a rate equal to its threshold opens. `wait_jitter` 0.2: 20 % either way.

    A call is slow if it took longer than `slow_call_duration_threshold_s`, whether it failed or not.
    """

    sliding_window_size: int = 20
    minimum_number_of_calls: int = 10
    failure_rate_threshold: float = 0.5
    slow_call_rate_threshold: float = 1.0
    slow_call_duration_threshold_s: float = 60.0
    wait_duration_in_open_state_s: float = 2.0
    wait_jitter: float = 0.2
    permitted_calls_in_half_open_state: int = 3
    max_wait_duration_in_half_open_state_s: float = 5.0

    def __post_init__(self) -> None:
        counts = (
            self.sliding_window_size,
            self.minimum_number_of_calls,
            self.permitted_calls_in_half_open_state,
        )
        rates = (self.failure_rate_threshold, self.slow_call_rate_threshold)
        spans_s = (
            self.slow_call_duration_threshold_s,
            self.wait_duration_in_open_state_s,
            self.max_wait_duration_in_half_open_state_s,
        )
        fine = min(counts) >= 1 and min(spans_s) > 0 and all(0 < rate <= 1 for rate in rates)
        if not fine or not 0 <= self.wait_jitter < 1:
            raise ValueError(f"a breaker cannot work with {self}")


class Transition(msgspec.Struct, frozen=True):
    """`cause`: failure_rate, slow_call_rate, wait_over, recovered or half_open_too_long. `wait_s`: until OPEN ends."""

    breaker: str
    before: BreakerState
    after: BreakerState
    cause: str
    wait_s: float = 0.0


OnTransition = Callable[[Transition], None]


class CircuitBreaker:
    """`on_transition` is called after each change of state; it must be quick and must not raise.

    `random`: uniform in [0, 1). `refused`: calls not permitted so far.
    """

    __slots__ = (
        "_clean",
        "_clock",
        "_deadline_s",
        "_epoch",
        "_failed",
        "_last_permit",
        "_needed",
        "_on_transition",
        "_probes",
        "_probes_left",
        "_random",
        "_settings",
        "_slow",
        "_slow_s",
        "_state",
        "_window",
        "name",
        "refused",
    )

    def __init__(
        self,
        name: str,
        settings: BreakerSettings | None = None,
        *,
        clock: MonotonicClock = time.monotonic,
        random: Callable[[], float] = random.random,
        on_transition: OnTransition | None = None,
    ):
        self.name = name
        self.refused = 0
        self._settings = settings or BreakerSettings()
        self._slow_s = self._settings.slow_call_duration_threshold_s
        self._clock, self._random = clock, random
        self._on_transition = on_transition
        self._last_permit = 0
        self._probes: set[int] = set()
        self._probes_left = 0
        # End of the wait in OPEN, end of the patience in HALF_OPEN.
        self._deadline_s = 0.0
        self._state = BreakerState.CLOSED
        self._begin(self._settings.sliding_window_size)

    @property
    def state(self) -> BreakerState:
        """As of now. OPEN turns into HALF_OPEN only when somebody calls."""
        if self._state is BreakerState.HALF_OPEN:
            self._expire(self._clock())
        return self._state

    def retry_after_s(self) -> float:
        """How long a refused caller should wait; 0 if the next call may pass."""
        if self.state is BreakerState.CLOSED or self._probes_left:
            return 0.0
        return max(0.0, self._deadline_s - self._clock())

    def acquire(self) -> int:
        """A permit, to be settled exactly once by `succeed`, `fail` or `release`; else REFUSED."""
        if self._state is BreakerState.CLOSED:
            return self._epoch
        now_s = self._clock()
        self._expire(now_s)
        if self._state is BreakerState.OPEN and now_s >= self._deadline_s:
            self._half_open(now_s)
        if self._state is BreakerState.OPEN or not self._probes_left:
            self.refused += 1
            return REFUSED
        self._probes_left -= 1
        permit = self._new_permit()
        self._probes.add(permit)
        return permit

    def succeed(self, permit: int, duration_s: float) -> None:
        slow = duration_s > self._slow_s
        if permit == self._epoch:
            # The common case: a full window of successes, which one more does not change.
            if slow or not self._clean:
                self._record(permit, _SLOW if slow else 0)
        elif permit in self._probes:
            self._record(permit, _SLOW if slow else 0)

    def fail(self, permit: int, duration_s: float) -> None:
        if permit == self._epoch or permit in self._probes:
            self._record(permit, _FAILED | _SLOW if duration_s > self._slow_s else _FAILED)

    def release(self, permit: int) -> None:
        """The call was cancelled or says nothing about the dependency; a probe's permit becomes free again."""
        if permit in self._probes:
            self._probes.discard(permit)
            self._probes_left += 1

    def _record(self, permit: int, outcome: int) -> None:
        if self._state is BreakerState.HALF_OPEN:
            self._expire(self._clock())
            if permit not in self._probes:
                return
            self._probes.discard(permit)
        window = self._window
        if len(window) == window.maxlen:
            oldest = window[0]
            self._failed -= oldest & _FAILED
            self._slow -= oldest >> 1
        window.append(outcome)
        self._failed += outcome & _FAILED
        self._slow += outcome >> 1
        calls = len(window)
        self._clean = calls == window.maxlen and not (self._failed or self._slow)
        if calls >= self._needed:
            self._judge(calls)

    def _judge(self, calls: int) -> None:
        settings = self._settings
        if self._failed / calls >= settings.failure_rate_threshold:
            self._open(self._clock(), "failure_rate")
        elif self._slow / calls >= settings.slow_call_rate_threshold:
            self._open(self._clock(), "slow_call_rate")
        elif self._state is BreakerState.HALF_OPEN:
            self._begin(settings.sliding_window_size)
            self._enter(BreakerState.CLOSED, "recovered")

    def _expire(self, now_s: float) -> None:
        """Ends a half-open state that has lasted too long, as of the moment when a timer would have."""
        if self._state is BreakerState.HALF_OPEN and now_s >= self._deadline_s:
            self._open(self._deadline_s, "half_open_too_long")

    def _open(self, at_s: float, cause: str) -> None:
        settings = self._settings
        spread = 1.0 + settings.wait_jitter * (2.0 * self._random() - 1.0)
        wait_s = settings.wait_duration_in_open_state_s * spread
        self._deadline_s = at_s + wait_s
        self._begin(1)
        self._enter(BreakerState.OPEN, cause, wait_s)

    def _half_open(self, now_s: float) -> None:
        settings = self._settings
        self._deadline_s = now_s + settings.max_wait_duration_in_half_open_state_s
        self._begin(settings.permitted_calls_in_half_open_state)
        self._probes_left = settings.permitted_calls_in_half_open_state
        self._enter(BreakerState.HALF_OPEN, "wait_over")

    def _begin(self, window_size: int) -> None:
        """Empties the window and starts a new set of permits: results of earlier calls are ignored from now on."""
        self._window: deque[int] = deque(maxlen=window_size)
        self._needed = min(self._settings.minimum_number_of_calls, window_size)
        self._failed = self._slow = 0
        self._clean = False
        self._probes.clear()
        self._probes_left = 0
        self._epoch = self._new_permit()

    def _new_permit(self) -> int:
        self._last_permit += 1
        return self._last_permit

    def _enter(self, state: BreakerState, cause: str, wait_s: float = 0.0) -> None:
        before, self._state = self._state, state
        if self._on_transition is not None:
            self._on_transition(Transition(self.name, before, state, cause, wait_s))
