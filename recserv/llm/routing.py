"""Which model gets a call: tiers -> chains of models, cheapest first as the settings list them; what a call costs.

    tier -> chain -> the first model whose breaker lets a call through

and, once a call failed, where the job goes from there (`next_step`): wait and try the same model, go down the chain,
ask for less, or give up. It only decides; the writer waits and calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum

import msgspec

from recserv.config_llm import TIERS, LlmSettings, ModelSettings
from recserv.llm.base import (
    ContextTooLong,
    KeyRefused,
    LlmFailure,
    ProviderDown,
    RateLimited,
    Refused,
    Usage,
)
from recserv.resilience.breaker import BreakerSettings, CircuitBreaker, OnTransition
from recserv.resilience.deadline import MonotonicClock

NANODOLLARS = 1_000_000_000
BACKOFF_BASE_S = 0.2
BACKOFF_MAX_S = 4.0
KEY_TURNS_MAX = 8
"""How often a job waits for a key that works."""
SHRINKS_MAX = 6


def nanodollars(dollars: float) -> int:
    return round(dollars * NANODOLLARS)


class Model:
    """A model of the price table, with its breaker."""

    def __init__(self, name: str, settings: ModelSettings, breaker: CircuitBreaker):
        self.name, self.settings, self.breaker = name, settings, breaker

    def cost(self, usage: Usage) -> int:
        """Nanodollars."""
        return self.cost_of(usage.input_tokens, usage.output_tokens)

    def cost_of(self, input_tokens: int, output_tokens: int) -> int:
        per_million = input_tokens * self.settings.input_per_million + output_tokens * self.settings.output_per_million
        return round(per_million * NANODOLLARS / 1_000_000)


class Routes:
    def __init__(
        self,
        settings: LlmSettings,
        *,
        clock: MonotonicClock = time.monotonic,
        on_transition: OnTransition | None = None,
    ):
        breaker = BreakerSettings(
            # Wide, so that a run of bad luck at a degraded provider does not open it.
            sliding_window_size=50,
            minimum_number_of_calls=20,
            failure_rate_threshold=settings.breaker_failure_rate,
            slow_call_duration_threshold_s=settings.attempt_timeout_s,
            wait_duration_in_open_state_s=settings.breaker_wait_s,
            max_wait_duration_in_half_open_state_s=2 * settings.attempt_timeout_s,
        )
        self.models = {
            name: Model(name, given, CircuitBreaker(f"llm:{name}", breaker, clock=clock, on_transition=on_transition))
            for name, given in settings.models.items()
        }
        everything = list(self.models)
        self._chains = {
            tier: tuple(self.models[name] for name in settings.tiers.get(tier) or everything) for tier in TIERS
        }

    def chain(self, tier: str) -> tuple[Model, ...]:
        """An unknown tier gets the chain of the cheapest one."""
        return self._chains.get(tier, self._chains[TIERS[0]])

    def all_open(self) -> bool:
        """Whether no breaker would let a call through now."""
        return all(model.breaker.retry_after_s() > 0 for model in self.models.values())


class Step(Enum):
    SAME_MODEL = "same_model"
    NEXT_MODEL = "next_model"
    SHRINK = "shrink"
    GIVE_UP = "give_up"


class Progress(msgspec.Struct):
    """Of one job, so far: attempts at the model in turn, and what is left."""

    on_model: int = 0
    key_turns: int = 0
    shrinks: int = 0
    is_last: bool = False
    remaining_s: float = 0.0


def next_step(
    failure: LlmFailure, progress: Progress, attempts_max: int, random: Callable[[], float]
) -> tuple[Step, float]:
    """What to do after `failure`, and how many seconds to wait before. `random`: uniform in [0, 1).

    5xx, time-outs and nonsense go down the chain at once; only at its end is the same model asked again, after a wait
    with full jitter. A rate limit is waited out if the wait is short, or if there is no other model.
    """
    if isinstance(failure, ContextTooLong):
        return (Step.SHRINK, 0.0) if progress.shrinks < SHRINKS_MAX else (Step.NEXT_MODEL, 0.0)
    if isinstance(failure, KeyRefused):
        # Perhaps the key is being replaced, so the wait must not be too short.
        wait_s = 0.5 * _jittered(progress.key_turns, lambda: 1.0) + 0.5 * _jittered(progress.key_turns, random)
        fine = progress.key_turns < KEY_TURNS_MAX and wait_s < progress.remaining_s
        return (Step.SAME_MODEL, wait_s) if fine else (Step.GIVE_UP, 0.0)
    onward = Step.GIVE_UP if progress.is_last else Step.NEXT_MODEL
    if isinstance(failure, Refused) or progress.on_model >= attempts_max:
        return onward, 0.0
    said_s = failure.retry_after_s if isinstance(failure, RateLimited | ProviderDown) else None
    wait_s = _jittered(progress.on_model - 1, random) if said_s is None else said_s * (1.0 + 0.1 * random()) + 0.01
    if not progress.is_last and (not isinstance(failure, RateLimited) or wait_s > progress.remaining_s / 4):
        return Step.NEXT_MODEL, 0.0
    return (Step.SAME_MODEL, wait_s) if wait_s < progress.remaining_s / 2 else (onward, 0.0)


def _jittered(step: int, random: Callable[[], float]) -> float:
    """Exponential backoff with full jitter."""
    return random() * min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2.0 ** max(0, step))
