"""A worker as tests of explanations need it: pipeline, board and runner around a writer that does what a test says."""

from __future__ import annotations

import asyncio
from typing import Any

from recserv.config_llm import LlmSettings, ModelSettings
from recserv.llm.base import Landed, WritingTask, Written
from recserv.pipeline.enrich_outbox import Outbox
from recserv.pipeline.enrich_pace import Pace
from recserv.pipeline.enrich_runner import EnrichRunner
from recserv.pipeline.explanation_board import ExplanationBoard
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.settings import PipelineSettings
from recserv.resilience.deadline import Deadline
from recserv.stores.explanations_memory import MemoryExplanationStore, Shelf
from recserv.types import Clock, ExplainMode, ExplanationState, RecommendQuery, TemplateCause
from tests.llm.support import Recorder
from tests.patience import HANG_GUARD_S
from tests.pipeline.support import no_time_passes, viewed


class FakeWriter:
    """Writes "About TITLE" once `gate` is open; remembers the tasks it got."""

    def __init__(self) -> None:
        self.tasks: list[WritingTask] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.cause = TemplateCause.UNSPECIFIED
        self.shut = TemplateCause.UNSPECIFIED
        self.skip = 0
        self.error: Exception | None = None
        self.at_once = self.at_once_max = 0

    def closed(self) -> TemplateCause:
        return self.shut

    async def write(self, task: WritingTask, deadline: Deadline, landed: Landed) -> Written:
        self.tasks.append(task)
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        try:
            await self.gate.wait()
        finally:
            self.at_once -= 1
        if self.error is not None:
            raise self.error
        if self.cause:
            return Written({}, self.cause)
        texts = {item.key: f"About {item.title}" for item in task.items[self.skip :]}
        for key, text in texts.items():
            landed(key, text)
        return Written(texts, TemplateCause.DISCARDED if self.skip else TemplateCause.UNSPECIFIED)


class Worker:
    """A pipeline with a board of its own; several may share a shelf, as processes share Redis. `clock`: the wall's. The
    loop is never busy, whatever else the machine does.
    """

    def __init__(self, engine: Any, shelf: Shelf | None, name: str, *, clock: Clock, **changes: Any):
        given: dict[str, Any] = {"job_deadline_s": HANG_GUARD_S, "attempt_timeout_s": HANG_GUARD_S, **changes}
        models = {"small": ModelSettings(input_per_million=1.0, output_per_million=1.0)}
        self.settings = LlmSettings(base_url="http://127.0.0.1:9/v1", models=models, **given)
        self.writer, self.recorder = FakeWriter(), Recorder()
        self.store = MemoryExplanationStore(clock, shelf=shelf, worker=name)
        self.outbox = Outbox(self.store, clock, self.recorder)
        self.runner = EnrichRunner(
            self.settings,
            self.writer,
            self.store,
            self.outbox,
            clock,
            self.recorder,
            pace=Pace(no_time_passes, no_time_passes),
        )
        self.board = ExplanationBoard(
            clock,
            settings=self.settings,
            runner=self.runner,
            store=self.store,
            outbox=self.outbox,
            observer=self.recorder,
        )
        self.pipeline = RecommendationPipeline(engine, None, PipelineSettings(), board=self.board)

    async def start(self) -> None:
        await self.store.open()
        self.outbox.start()
        self.runner.start()

    async def close(self) -> None:
        await self.runner.close()
        await self.outbox.close()
        await self.store.close()

    async def die(self) -> None:
        """As kill -9: nothing is said to anybody."""
        await self.runner.close()
        if self.outbox._task is not None:
            self.outbox._task.cancel()

    async def ask(self, *items: str, **changes: Any) -> Any:
        query = RecommendQuery(context_events=viewed(*items), explain=ExplainMode.LLM_ASYNC, page_size=5, **changes)
        return await self.pipeline.recommend(query, Deadline(HANG_GUARD_S))

    async def states(self, token: str, tenant: str = "default") -> set[ExplanationState]:
        return {explanation.state for explanation in await self.board.explanations(tenant, token)}

    async def watched(self, token: str) -> list[Any]:
        return [explanation async for explanation in self.board.watch("default", token)]


class Counted:
    """Counts the calls of a method, and how many of them were under way at once; each takes a moment."""

    def __init__(self, owner: Any, name: str):
        self.calls = self.at_once = self.at_once_max = 0
        self._real = getattr(owner, name)
        setattr(owner, name, self)

    async def __call__(self, *args: Any, **named: Any) -> Any:
        self.calls += 1
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        return await self._real(*args, **named)
