"""Writes explanations: one task through the chain of models until it has its texts, or is out of time or money.

    task -> prompt -> model (breaker, budget) -> call -> reader -> texts as they land
                 ^ smaller      ^ next or again, after a wait       | nothing usable
                 +--------------+-----------------------------------+

`next_step` decides what to do after each failure; this module does it. Money is reserved before each call and settled
after it: the usage that the provider reports, the whole reservation if it reports nothing and may charge, nothing if it
refused. A call that gave no usable text is a failure for the model's breaker as well.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from recserv.config_llm import LlmSettings
from recserv.errors import StoreUnavailable
from recserv.llm.base import (
    ContextTooLong,
    KeyRefused,
    Landed,
    Ledger,
    LlmFailure,
    LlmObserver,
    Refused,
    Usage,
    WritingTask,
    Written,
)
from recserv.llm.client import ChatAnswer, ChatRequest, LlmClient
from recserv.llm.prompts import Prompt, build, response_format, whole
from recserv.llm.routing import Model, Progress, Routes, Step, nanodollars, next_step
from recserv.llm.validation import AnswerReader, KnownId
from recserv.resilience.deadline import Deadline, MonotonicClock
from recserv.resilience.quiet_log import QuietLog
from recserv.resilience.retry import RetryBudget
from recserv.types import TemplateCause

logger = QuietLog(logging.getLogger("recserv.llm"))

RETRY_RESERVE = 20.0
"""Second attempts that a quiet server has saved up, from its start on: so one job may go down a whole chain."""
REFUSED_WAIT_S = 0.05
BUDGET_PAUSE_S = 1.0
"""How long nothing is tried once the budget was found to be spent."""


class Unusable(LlmFailure):
    """The answer was complete, and nothing in it could be shown."""

    outcome = "unusable"


class BudgetSpent(LlmFailure):
    outcome = "budget_spent"
    billable = False


class LlmWriter:
    """`known_id`: whether a word is the id of a product, so that no text names one."""

    def __init__(
        self,
        settings: LlmSettings,
        client: LlmClient,
        routes: Routes,
        ledger: Ledger,
        observer: LlmObserver,
        *,
        known_id: KnownId = lambda word: False,
        clock: MonotonicClock = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ):
        self.settings, self._client, self._routes, self._ledger = settings, client, routes, ledger
        self._observer, self._known_id, self._clock, self.uniform = observer, known_id, clock, uniform
        self.sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
        """Between two attempts. Goes by the same clock."""
        self.retries = RetryBudget(settings.retry_ratio, RETRY_RESERVE, saved=RETRY_RESERVE)
        self._day_max, self._minute_max = nanodollars(settings.budget_per_day), nanodollars(settings.budget_per_minute)
        self._spent_until_s = 0.0

    def closed(self) -> TemplateCause:
        if self._clock() < self._spent_until_s:
            return TemplateCause.BUDGET_SPENT
        return TemplateCause.PROVIDER_FAILED if self._routes.all_open() else TemplateCause.UNSPECIFIED

    async def close(self) -> None:
        await self._client.close()

    async def write(self, task: WritingTask, deadline: Deadline, landed: Landed) -> Written:
        job = _Job(self, task, deadline, landed)
        self.retries.request()
        try:
            cause = await job.run(self._routes.chain(task.tier))
        except StoreUnavailable:
            # Without the ledger it is unknown how much may be spent.
            cause = TemplateCause.BUDGET_SPENT
        if len(job.texts) == len(task.items):
            cause = TemplateCause.UNSPECIFIED
        return Written(job.texts, cause, job.attempts)

    async def attempt(self, model: Model, job: _Job, prompt: Prompt, permit: int) -> None:
        """One call: money set aside, the answer read and judged, money settled, breaker told. Raises LlmFailure."""
        reserved = model.cost_of(prompt.tokens_about, prompt.tokens_max)
        began_s = self._clock()
        outcome, verdict = "cancelled", None
        try:
            reservation = await self._ledger.reserve(reserved, self._day_max, self._minute_max)
            if not reservation:
                self._spent_until_s = self._clock() + BUDGET_PAUSE_S
                raise BudgetSpent("the budget is spent")
            # An unexpected failure is charged as if the whole reservation had been used.
            usage: Usage | None = None
            billable = True
            reader = AnswerReader(prompt, self._known_id, lambda label, text: job.land(prompt.labels[label], text))
            try:
                answer = await self._call(model, job, prompt, reader)
                usage = answer.usage
                if not reader.finish(cut=answer.finish_reason == "length") or not reader.verdicts.texts:
                    raise Unusable("nothing usable in the answer", usage)
            except LlmFailure as failure:
                usage, billable = failure.usage or usage, failure.billable
                raise
            finally:
                for reason, count in reader.verdicts.discarded.items():
                    self._observer.discarded(reason, count)
                await self._settle(model, reservation, reserved, usage, billable)
            outcome, verdict = "ok", True
        except LlmFailure as failure:
            outcome = failure.outcome
            verdict = None if isinstance(failure, ContextTooLong | KeyRefused | BudgetSpent | Refused) else False
            raise
        finally:
            seconds = self._clock() - began_s
            _tell(model, permit, verdict, seconds)
            self._observer.call(model.name, outcome, seconds)

    async def _call(self, model: Model, job: _Job, prompt: Prompt, reader: AnswerReader) -> ChatAnswer:
        request = ChatRequest(
            model=model.name,
            messages=prompt.messages,
            max_tokens=prompt.tokens_max,
            temperature=self.settings.temperature,
            response_format=response_format(model.settings.response_format, prompt.labels),
            stream=self.settings.stream,
            extra=model.settings.extra,
        )
        limit = job.deadline.within(self.settings.attempt_timeout_s)
        answer = await self._client.chat(request, limit, reader.feed if request.stream else None)
        if not request.stream:
            reader.feed(answer.text)
        return answer

    async def _settle(self, model: Model, reservation: str, reserved: int, usage: Usage | None, billable: bool) -> None:
        unknown = reserved if billable else 0
        spent = unknown if usage is None else model.cost(usage)
        await asyncio.shield(self._ledger.settle_spend(reservation, reserved, spent))
        if usage is not None or spent:
            tokens = usage or Usage(0, 0)
            self._observer.spent(model.name, tokens.input_tokens, tokens.output_tokens, spent, usage is None)


def _tell(model: Model, permit: int, verdict: bool | None, seconds: float) -> None:
    if verdict is None:
        model.breaker.release(permit)
    elif verdict:
        model.breaker.succeed(permit, seconds)
    else:
        model.breaker.fail(permit, seconds)


class _Job:
    """One task on its way down a chain."""

    def __init__(self, writer: LlmWriter, task: WritingTask, deadline: Deadline, landed: Landed):
        self._writer, self._task, self.deadline, self._landed = writer, task, deadline, landed
        self._shape = whole(task)
        self._prompt: Prompt | None = None
        self.texts: dict[bytes, str] = {}
        self.attempts = 0
        self._called = False

    def land(self, place: int, text: str) -> None:
        key = self._task.items[place].key
        if key not in self.texts:
            self.texts[key] = text
            self._landed(key, text)

    async def run(self, chain: tuple[Model, ...]) -> TemplateCause:
        """Goes down the chain; returns why some items have no text, if any have none.

        A job that found every breaker open waits for one of them: it was taken on when they were not, and a moment
        later a probe may close one.
        """
        cause = TemplateCause.PROVIDER_FAILED
        while True:
            for place, model in enumerate(chain):
                step, cause = await self._with(model, place == len(chain) - 1, cause)
                if step is not Step.NEXT_MODEL:
                    return cause
            wait_s = min(model.breaker.retry_after_s() for model in chain)
            wait_s = min(max(wait_s, REFUSED_WAIT_S), 1.0) * (1.0 + self._writer.uniform())
            if self._called or wait_s >= self.deadline.remaining_s():
                return cause
            await self._writer.sleep(wait_s)

    async def _with(self, model: Model, is_last: bool, cause: TemplateCause) -> tuple[Step, TemplateCause]:
        """All attempts at one model, and the next step."""
        writer, progress = self._writer, Progress(is_last=is_last)
        while True:
            if self.deadline.remaining_s() <= 0:
                return Step.GIVE_UP, TemplateCause.EXPIRED
            # Once, however long the job waits for a permit; and before it takes one, which must not get lost.
            prompt = self._prompt = self._prompt or build(self._task, self._shape)
            permit = model.breaker.acquire()
            if not permit:
                return Step.NEXT_MODEL, cause
            self._called = True
            self.attempts += 1
            progress.on_model += 1
            try:
                await writer.attempt(model, self, prompt, permit)
            except BudgetSpent:
                return Step.GIVE_UP, TemplateCause.BUDGET_SPENT
            except LlmFailure as failure:
                cause = TemplateCause.DISCARDED if isinstance(failure, Unusable) else TemplateCause.PROVIDER_FAILED
                step, wait_s = self._after(failure, progress, model)
            else:
                return Step.GIVE_UP, TemplateCause.DISCARDED
            if step is Step.SHRINK:
                smaller = self._shape.smaller()
                if smaller is None:
                    return Step.NEXT_MODEL, cause
                self._shape, self._prompt = smaller, None
            elif step is not Step.SAME_MODEL:
                return step, cause
            if wait_s:
                await writer.sleep(wait_s)

    def _after(self, failure: LlmFailure, progress: Progress, model: Model) -> tuple[Step, float]:
        progress.remaining_s = self.deadline.remaining_s()
        step, wait_s = next_step(failure, progress, self._writer.settings.attempts_max, self._writer.uniform)
        if isinstance(failure, ContextTooLong | KeyRefused):
            # Neither costs anything or would be retried as it is, so they do not count as attempts.
            self.attempts -= 1
            progress.on_model -= 1
            progress.shrinks += isinstance(failure, ContextTooLong)
            progress.key_turns += isinstance(failure, KeyRefused)
        elif step is not Step.GIVE_UP and not self._writer.retries.take():
            step = Step.GIVE_UP
        fields = {"model": model.name, "outcome": failure.outcome, "cause": str(failure), "then": step.value}
        logger.log(logging.INFO, failure.outcome, "a call to the model failed", fields=fields)
        return step, wait_s
