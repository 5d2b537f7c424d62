"""A thousand jobs at a provider that fails half of the time: what becomes of them, how often it is asked, the cost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from msgspec.structs import replace

from recserv.llm.routing import nanodollars
from recserv.pipeline.enrich_jobs import Job, JobQueue, Slot
from recserv.pipeline.enrich_outbox import Outbox
from recserv.pipeline.enrich_pace import Pace
from recserv.pipeline.enrich_runner import EnrichRunner
from recserv.stores.explanations_memory import MemoryExplanationStore
from recserv.types import Priority, TemplateCause, wall_clock_ms
from tests.llm.plain_provider import PlainProvider, Reply, texts, unreliable
from tests.llm.support import Rig, settings, task
from tests.patience import HANG_GUARD_S

JOBS = 1000
SEED = 20_261_121


def job(number: int, now_ms: int, deadline_s: float, items: int = 2) -> Job:
    wanted = task(*[f"Product {number} number {n}" for n in range(items)])
    keys = [f"{number}-{n}".encode().ljust(16, b".") for n in range(items)]
    named = tuple(replace(item, key=key) for key, item in zip(keys, wanted.items, strict=True))
    return Job(
        job_id=f"j{number}",
        tenant="default",
        slots=[Slot("default", key) for key in keys],
        priority=Priority.NORMAL,
        posted_ms=now_ms,
        deadline_ms=now_ms + round(deadline_s * 1000),
        given=replace(wanted, items=named),
    )


async def run_all(rig: Rig, count: int) -> tuple[list[Job], list[int]]:
    """Every job through a runner over a real client; the jobs, and the attempts of each."""
    attempts: list[int] = []
    write = rig.writer.write

    async def counted(*args: Any) -> Any:
        written = await write(*args)
        attempts.append(written.attempts)
        return written

    rig.writer.write = counted  # type: ignore[method-assign]
    given = rig.writer.settings
    store = MemoryExplanationStore(wall_clock_ms)
    outbox = Outbox(store, wall_clock_ms, rig.recorder)
    never_busy = Pace(lambda: 0.0, lambda: 0.0)
    runner = EnrichRunner(given, rig.writer, store, outbox, wall_clock_ms, rig.recorder, pace=never_busy)
    runner.start()
    jobs = [job(n, wall_clock_ms(), given.job_deadline_s) for n in range(count)]
    for one in jobs:
        assert runner.queue.put(one) is None
    runner._wake.set()
    ended = asyncio.Event()
    waiting = [slot for one in jobs for slot in one.slots]
    for slot in waiting:
        slot.watchers.append(ended)
    async with asyncio.timeout(2 * HANG_GUARD_S):
        while waiting := [slot for slot in waiting if not slot.final]:
            ended.clear()
            await ended.wait()
    await runner.close()
    await rig.writer.close()
    return jobs, attempts


@pytest.mark.slow
@pytest.mark.parametrize("models", [("small",), ("small", "medium", "large")], ids=["one model", "a chain of three"])
async def test_most_jobs_get_their_texts_and_all_of_them_end(models: tuple[str, ...]) -> None:
    behave, counts = unreliable(SEED, 0.5)
    async with PlainProvider(behave) as provider:
        given = settings(
            provider.base_url, *models, attempt_timeout_s=2.0, job_deadline_s=60.0, breaker_failure_rate=0.8
        )
        rig = Rig(given, clock=time.monotonic)
        jobs, attempts = await run_all(rig, JOBS)
        assert provider.in_flight_max <= given.in_flight_max
    ready = sum(all(slot.text for slot in one.slots) for one in jobs)
    mean = sum(attempts) / len(attempts)
    print(f"\nseed {SEED}: {ready} of {JOBS} ready, {mean:.3f} attempts each, {dict(counts)}")
    assert all(slot.final for one in jobs for slot in one.slots)
    assert ready >= 0.7 * JOBS
    assert mean <= 1.55
    assert 0.45 < 1 - counts["good"] / sum(counts.values()) < 0.55, "half of the answers were failures"


@pytest.mark.parametrize("failing", [0.0, 0.5])
async def test_spend_never_passes_the_budget_by_more_than_the_calls_in_flight(failing: float) -> None:
    """The provider reports more tokens than were asked for: what was set aside before a call is too little for it."""
    behave, _ = unreliable(SEED, failing)
    used = (2_000, 1_000)
    cost = used[0] * 1_000 + used[1] * 2_000

    def dear(asked: Any) -> Reply:
        reply = behave(asked)
        if reply.content is not None:
            reply.usage, reply.delay_s = used, 0.01
        return reply

    budget = 0.1
    async with PlainProvider(dear) as provider:
        given = settings(
            provider.base_url,
            "small",
            budget_per_day=budget,
            budget_per_minute=0.0,
            in_flight_max=10,
            # Of half of the calls some have no answer, ever.
            attempt_timeout_s=0.5 if failing else HANG_GUARD_S,
            breaker_failure_rate=1.0,
        )
        rig = Rig(given)
        jobs, _ = await run_all(rig, 200)
    spent = rig.ledger.spent("d" + str(1_800_000_000_000 // 86_400_000))
    answered = sum(1 for outcome in rig.recorder.outcomes if outcome in ("ok", "unusable"))
    assert spent >= answered * cost
    assert spent <= nanodollars(budget) + given.in_flight_max * cost
    assert spent >= 0.8 * nanodollars(budget), "it was used"
    causes = {slot.cause for one in jobs for slot in one.slots if not slot.text}
    assert TemplateCause.BUDGET_SPENT in causes
    assert rig.writer.closed() is TemplateCause.BUDGET_SPENT


async def test_a_minutes_budget_stops_calls_as_the_days_does() -> None:
    async with PlainProvider() as provider:
        rig = Rig(settings(provider.base_url, budget_per_day=1.0, budget_per_minute=0.0015))
        written = [await rig.write(task("Blue bowl", "Red spoon")) for _ in range(20)]
        await rig.writer.close()
    paid = sum(bool(one.texts) for one in written)
    assert 0 < paid < 20
    assert {one.cause for one in written[paid:]} == {TemplateCause.BUDGET_SPENT}
    assert len(provider.asked) == paid


async def test_a_spike_never_makes_the_queue_longer_than_it_may_be() -> None:
    """However many come, no more wait than may, and all that do not fit are given back."""
    queue, one = JobQueue(100), job(0, 0, 1.0, items=1)
    refused = [queue.put(one) for _ in range(10_000)]
    assert len(queue) == 100
    assert refused == [None] * 100 + [one] * 9_900


async def test_texts_of_an_injected_answer_are_those_of_the_products_asked_for() -> None:
    async with PlainProvider(lambda asked: Reply(content=texts(asked)[:-1] + ', "p99": "Buy this one"}')) as provider:
        rig = Rig(settings(provider.base_url))
        written = await rig.write(task("Blue bowl"))
        await rig.writer.close()
    assert list(written.texts.values()) == ["Chosen for your kitchen"]
    assert rig.recorder.discards == {"unknown_item": 1}
