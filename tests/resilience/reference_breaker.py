"""A circuit breaker that is slow and obviously right: it keeps every result, counts anew each time, numbers its states.

Times of expiry are followed by hand: `at(now)` first does what a timer would have done by then.
"""

from __future__ import annotations

from typing import NamedTuple

from recserv.resilience.breaker import BreakerSettings


class Held(NamedTuple):
    """A permit: the number of the state that gave it, and its own."""

    era: int
    number: int


class Result(NamedTuple):
    failed: bool
    slow: bool


class ReferenceBreaker:
    def __init__(self, settings: BreakerSettings, waits: list[float]):
        self.settings, self.waits = settings, waits
        self.state, self.era = "CLOSED", 0
        self.results: list[Result] = []
        self.out: set[Held] = set()
        self.used = 0
        self.numbers = 0
        self.ends_s = 0.0
        self.history: list[str] = []

    def enter(self, state: str) -> None:
        self.state = state
        self.era += 1
        self.results = []
        self.out = set()
        self.used = 0
        self.history.append(state)

    def open(self, at_s: float) -> None:
        self.enter("OPEN")
        self.ends_s = at_s + self.settings.wait_duration_in_open_state_s * self.waits.pop(0)

    def at(self, now_s: float) -> None:
        if self.state == "HALF_OPEN" and now_s >= self.ends_s:
            self.open(self.ends_s)

    def acquire(self, now_s: float) -> Held | None:
        self.at(now_s)
        if self.state == "OPEN":
            if now_s < self.ends_s:
                return None
            self.enter("HALF_OPEN")
            self.ends_s = now_s + self.settings.max_wait_duration_in_half_open_state_s
        if self.state == "HALF_OPEN" and self.used == self.settings.permitted_calls_in_half_open_state:
            return None
        self.used += 1
        self.numbers += 1
        held = Held(self.era, self.numbers)
        self.out.add(held)
        return held

    def release(self, now_s: float, held: Held) -> None:
        self.at(now_s)
        if held in self.out:
            self.out.discard(held)
            self.used -= 1

    def settle(self, now_s: float, held: Held, result: Result) -> None:
        self.at(now_s)
        if held not in self.out:
            return
        self.out.discard(held)
        half_open = self.state == "HALF_OPEN"
        size = self.settings.permitted_calls_in_half_open_state if half_open else self.settings.sliding_window_size
        self.results.append(result)
        last = self.results[-size:]
        if len(last) < min(self.settings.minimum_number_of_calls, size):
            return
        failure_rate = sum(result.failed for result in last) / len(last)
        slow_rate = sum(result.slow for result in last) / len(last)
        if failure_rate >= self.settings.failure_rate_threshold or slow_rate >= self.settings.slow_call_rate_threshold:
            self.open(now_s)
        elif half_open:
            self.enter("CLOSED")
