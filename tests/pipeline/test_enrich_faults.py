"""The board and its runner on bad days: a provider that comes back, other versions, workers that wait for others."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
import pytest

from recserv.errors import StoreUnavailable
from recserv.llm.prompts import build, whole
from recserv.model.items import ItemTable
from recserv.pipeline import enrich_outbox, enrich_runner
from recserv.resilience.breaker import BreakerState
from recserv.resilience.deadline import MonotonicClock
from recserv.resilience.endless import endless
from recserv.stores.explanations_base import Outcome, Post, PostedJob
from recserv.stores.explanations_memory import MemoryExplanationStore, Shelf
from recserv.types import ExplanationState, TemplateCause
from tests.llm.plain_provider import PlainProvider
from tests.llm.support import Rig, settings, task
from tests.patience import HANG_GUARD_S, eventually_async
from tests.pipeline.enrich_worker import Counted

READY = ExplanationState.READY


async def test_after_an_outage_one_shopper_at_a_time_is_enough_to_close_the_breaker(make: Any) -> None:
    async with PlainProvider() as provider:
        rig = Rig(settings(provider.base_url))
        worker = await make()
        worker.runner._writer = rig.writer
        breaker = rig.routes.models["small"].breaker
        while permit := breaker.acquire():
            breaker.fail(permit, 0.1)
        rig.clock.now_s += 2 * rig.writer.settings.breaker_wait_s
        for number in range(3):
            answer = await worker.ask(f"item-{number}")
            watched = await worker.watched(answer.explanation_token)
            assert {(w.state, w.cause) for w in watched} == {(READY, TemplateCause.UNSPECIFIED)}, number
            # Texts land before the answer is over.
            await eventually_async(lambda: not worker.runner.in_flight)
        assert breaker.state is BreakerState.CLOSED
        await rig.writer.close()


async def test_a_job_with_a_priority_of_another_version_is_given_up_and_the_lease_is_kept(make: Any) -> None:
    shelf = Shelf()
    gone = MemoryExplanationStore(lambda: 0, shelf=shelf, worker="gone")
    await gone.open()
    payload = msgspec.msgpack.encode((99, 0, 2**50, task("Blue bowl")))
    await gone.publish([Post("default", "", b"", (PostedJob("job", "default", payload),))])
    shelf.leases["gone"] = 0
    worker = await make(shelf, "one")
    await eventually_async(lambda: not any(shelf.jobs.values()))
    assert [task.done() for task in worker.runner._tasks] == [False] * 3
    assert worker.writer.tasks == []


async def test_no_id_of_an_item_reaches_the_provider_even_where_there_is_no_title(engine: Any, make: Any) -> None:
    engine.items = ItemTable(engine.items.ids, None, None)
    worker = await make()
    answer = await worker.ask("item-5", anchor_item_ids=("item-7",))
    await worker.watched(answer.explanation_token)
    assert any(reason.because_item_ids for result in answer.results for reason in result.reasons)
    sent = [content for one in worker.writer.tasks for _, content in build(one, whole(one)).messages]
    assert sent
    assert re.findall(r"item-\d+", " ".join(sent)) == []


async def test_other_work_has_its_turn_between_jobs_that_begin_together(make: Any) -> None:
    worker = await make()
    began: list[int] = []
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    write = worker.writer.write

    async def noted(*args: Any) -> Any:
        began.append(turns)
        return await write(*args)

    worker.writer.write = noted
    await worker.runner.close()
    answers = [await worker.ask(f"item-{n}") for n in range(8)]
    ticking = asyncio.create_task(others())
    worker.runner.start()
    for answer in answers:
        await worker.watched(answer.explanation_token)
    ticking.cancel()
    assert len(set(began)) == 8, began


async def test_who_waits_for_another_worker_asks_the_store_ever_less_often(virtual: MonotonicClock, make: Any) -> None:
    shelf = Shelf()
    one, two, three = await make(shelf, "one"), await make(shelf, "two"), await make(shelf, "three")
    one.writer.gate.clear()
    first = await one.ask("item-5")
    await one.outbox.idle.wait()
    await eventually_async(lambda: one.writer.at_once)
    claims, reads = Counted(two.store, "claim"), Counted(three.store, "outcomes")
    second = await two.ask("item-5")
    watching = asyncio.create_task(three.watched(first.explanation_token))
    until_s = virtual() + 0.6
    await eventually_async(lambda: virtual() >= until_s)
    assert claims.calls == 4, "at 0, 50, 150, 350 ms"
    assert reads.calls == 3, "at 0, 100, 300 ms"
    one.writer.gate.set()
    for watched in (await two.watched(second.explanation_token), await watching):
        assert {w.state for w in watched} == {READY}


async def test_what_has_gathered_for_the_others_is_settled_together_and_packed_once(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrich_outbox, "RETRY_S", 0.01)
    packed: list[object] = []
    encode = enrich_outbox.encode_payload
    monkeypatch.setattr(enrich_outbox, "encode_payload", lambda payload: packed.append(payload) or encode(payload))
    worker = await make(Shelf(), "one")
    settles, publish, tries = Counted(worker.store, "settle"), worker.store.publish, 0

    async def away_at_first(posts: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise StoreUnavailable("gone for a moment")
        await publish(posts)

    worker.store.publish = away_at_first
    for number in range(20):
        worker.outbox.settled("default", f"job-{number}", ((bytes([number]), Outcome("text", 1)),), done=True)
    await worker.ask("item-5")
    await worker.outbox.idle.wait()
    assert (tries > 1, len(packed)) == (True, 1)
    assert settles.at_once_max == 20


async def test_settles_that_fail_are_over_before_they_are_tried_again(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one of them could come after what was settled later."""
    monkeypatch.setattr(enrich_outbox, "RETRY_S", 0.0)
    worker = await make(Shelf(), "one")
    under_way: list[str] = []
    tries = 0

    async def settle(tenant: str, job_id: str, outcomes: Any, *, done: bool) -> None:
        nonlocal tries
        tries += 1
        assert job_id not in under_way
        under_way.append(job_id)
        if tries > 1:
            await asyncio.sleep(0.02)
        under_way.remove(job_id)
        if tries <= 2:
            raise StoreUnavailable("gone for a moment")

    worker.store.settle = settle
    for job_id in ("a", "b"):
        worker.outbox.settled("default", job_id, (), done=True)
    await worker.outbox.idle.wait()
    assert (tries, worker.recorder.drops) == (4, {})


async def test_what_the_shared_store_cannot_take_does_not_keep_the_next_things_back(make: Any) -> None:
    shelf = Shelf()
    worker = await make(shelf, "one")
    publish, refused = worker.store.publish, 0

    async def picky(posts: Any) -> None:
        nonlocal refused
        if not refused:
            refused = len(posts)
            raise KeyError("nobody foresaw it")
        await publish(posts)

    worker.store.publish = picky
    lost = await worker.ask("item-1")
    await asyncio.wait_for(worker.outbox.idle.wait(), HANG_GUARD_S)
    kept = await worker.ask("item-2")
    await asyncio.wait_for(worker.outbox.idle.wait(), HANG_GUARD_S)
    assert refused
    assert worker.recorder.drops == {"outbox": refused}
    assert ("default", lost.explanation_token) not in shelf.tokens
    assert ("default", kept.explanation_token) in shelf.tokens


async def test_a_lease_that_breaks_in_a_new_way_is_extended_again(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endless, "__defaults__", (0.0,))
    monkeypatch.setattr(enrich_runner, "BEAT_S", 0.01)
    worker = await make(Shelf(), "one")
    beat, beats = worker.store.beat, 0

    async def breaking() -> None:
        nonlocal beats
        beats += 1
        if beats <= 3:
            raise KeyError("nobody foresaw it")
        await beat()

    worker.store.beat = breaking
    await eventually_async(lambda: beats > 5)
    assert [task.done() for task in worker.runner._tasks] == [False] * 3


async def test_a_pump_that_broke_goes_on_with_what_waits(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endless, "__defaults__", (0.0,))
    worker = await make()
    pace, broke = worker.runner._pace, 0
    wait_s = pace.wait_s

    def breaking() -> float:
        nonlocal broke
        broke += 1
        if broke == 1:
            raise KeyError("nobody foresaw it")
        return wait_s()

    monkeypatch.setattr(type(pace), "wait_s", lambda self: breaking())
    answer = await worker.ask("item-1")
    watched = await asyncio.wait_for(worker.watched(answer.explanation_token), HANG_GUARD_S)
    assert broke > 1
    assert {one.state for one in watched} == {READY}
