"""Tasks, settings and observers for tests of the language-model side."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from msgspec.structs import replace

from recserv.config_llm import LlmSettings, ModelSettings
from recserv.llm.base import ContextItem, ItemFacts, SilentLlmObserver, Situation, Usage, WritingTask
from recserv.llm.client import LlmClient
from recserv.llm.keys import KeyRing
from recserv.llm.routing import Routes
from recserv.llm.writer import LlmWriter
from recserv.resilience.deadline import Deadline
from recserv.stores.explanations_memory import MemoryExplanationStore
from tests.patience import HANG_GUARD_S

NOW_MS = 1_800_000_000_000
PRICES = ModelSettings(input_per_million=1.0, output_per_million=2.0)


class Recorder(SilentLlmObserver):
    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.discards: dict[str, int] = {}
        self.jobs: list[str] = []
        self.cost = 0
        self.usages: list[tuple[Usage, bool]] = []
        self.drops: dict[str, int] = {}
        self.lookups = [0, 0, 0]

    def call(self, model: str, outcome: str, seconds: float) -> None:
        self.calls.append((model, outcome))

    def spent(self, model: str, input_tokens: int, output_tokens: int, nanodollars: int, estimated: bool) -> None:
        self.cost += nanodollars
        self.usages.append((Usage(input_tokens, output_tokens), estimated))

    def discarded(self, reason: str, count: int = 1) -> None:
        self.discards[reason] = self.discards.get(reason, 0) + count

    def job(self, outcome: str, waited_s: float) -> None:
        self.jobs.append(outcome)

    def dropped(self, kind: str, count: int = 1) -> None:
        self.drops[kind] = self.drops.get(kind, 0) + count

    def cache(self, hits: int, misses: int, joined: int) -> None:
        self.lookups = [a + b for a, b in zip(self.lookups, (hits, misses, joined), strict=True)]

    @property
    def outcomes(self) -> list[str]:
        return [outcome for _, outcome in self.calls]


def settings(base_url: str, *models: str, **changes: Any) -> LlmSettings:
    given: dict[str, Any] = {"attempt_timeout_s": HANG_GUARD_S, "job_deadline_s": HANG_GUARD_S, **changes}
    return LlmSettings(base_url=base_url, models=dict.fromkeys(models or ("small",), PRICES), **given)


def task(*titles: str, tier: str = "simple", events: int = 2, locale: str = "en-GB", search: str = "") -> WritingTask:
    """`titles` of the products to explain; `events` products were viewed before."""
    return WritingTask(
        tenant="default",
        locale=locale,
        tier=tier,
        situation=Situation(tuple(ContextItem(f"Seen thing {n}", "viewed") for n in range(events)), search),
        items=tuple(ItemFacts(bytes([n]), title, "Acme", ("Kitchen",)) for n, title in enumerate(titles)),
    )


def answer(*texts: str) -> str:
    """What a model that does as it is told sends back."""
    return json.dumps({f"p{place + 1}": text for place, text in enumerate(texts)})


class Clock:
    """Stands still until somebody sleeps by it: then that time is over."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


class Rig:
    """A writer with everything real behind it but the provider and the time. What a call may take is real all the
    same: its time limit, for a provider that does not answer. `clock`: another one, say the real one.
    """

    def __init__(
        self, given: LlmSettings, *, keys: tuple[str, ...] = (), ledger: Any = None, clock: Any = None, **options: Any
    ):
        self.clock = clock or Clock()
        self.recorder = Recorder()
        self.ledger = ledger or MemoryExplanationStore(lambda: NOW_MS)
        self.client = LlmClient(given.base_url, KeyRing(keys, clock=self.clock), in_flight_max=given.in_flight_max)
        self.routes = Routes(given, clock=self.clock)
        options = {"clock": self.clock, "uniform": lambda: 0.5, **options}
        self.writer = LlmWriter(given, self.client, self.routes, self.ledger, self.recorder, **options)
        if clock is None:
            self.writer.sleep = self.clock.sleep
        self.landed: list[tuple[bytes, str]] = []

    def give_up_first_attempt(self) -> None:
        """It is given hardly any time, whatever has become of it by then; the next ones get all that they need."""
        patient, call = self.writer.settings, self.recorder.call

        def first_is_over(model: str, outcome: str, seconds: float) -> None:
            self.writer.settings = patient
            call(model, outcome, seconds)

        self.writer.settings = replace(patient, attempt_timeout_s=0.3)
        self.recorder.call = first_is_over  # type: ignore[method-assign]

    async def write(self, wanted: WritingTask, seconds: float = HANG_GUARD_S) -> Any:
        """`seconds`: how much of them the pauses between the attempts may take."""
        deadline = Deadline(seconds, self.clock)
        return await self.writer.write(wanted, deadline, lambda key, text: self.landed.append((key, text)))
