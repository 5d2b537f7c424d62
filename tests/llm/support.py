"""Tasks, settings and observers for tests of the language-model side."""

from __future__ import annotations

import json
from typing import Any

from recserv.config_llm import LlmSettings, ModelSettings
from recserv.llm.base import ContextItem, ItemFacts, SilentLlmObserver, Situation, Usage, WritingTask
from recserv.llm.client import LlmClient
from recserv.llm.keys import KeyRing
from recserv.llm.routing import Routes
from recserv.llm.writer import LlmWriter
from recserv.stores.explanations_memory import MemoryExplanationStore

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
    given: dict[str, Any] = {"attempt_timeout_s": 2.0, "job_deadline_s": 10.0, **changes}
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


class Rig:
    """A writer with everything real behind it but the provider."""

    def __init__(self, given: LlmSettings, *, keys: tuple[str, ...] = (), ledger: Any = None, **options: Any):
        self.recorder = Recorder()
        self.ledger = ledger or MemoryExplanationStore(lambda: NOW_MS)
        self.client = LlmClient(given.base_url, KeyRing(keys), in_flight_max=given.in_flight_max)
        self.routes = Routes(given)
        self.writer = LlmWriter(given, self.client, self.routes, self.ledger, self.recorder, **options)
        self.landed: list[tuple[bytes, str]] = []

    async def write(self, wanted: WritingTask, seconds: float = 10.0) -> Any:
        from recserv.resilience.deadline import Deadline

        return await self.writer.write(wanted, Deadline(seconds), lambda key, text: self.landed.append((key, text)))
