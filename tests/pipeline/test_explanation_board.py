"""The board and its runner with a writer that does what a test says: states, single flight, priorities, deadlines."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from recserv.errors import NotFound, StoreUnavailable
from recserv.pipeline import enrich_outbox
from recserv.pipeline.enrich_jobs import Entry, Slot
from recserv.pipeline.enrich_outbox import Outbox
from recserv.pipeline.explanation_board import GRACE_MS, ExplanationBoard, Posted, new_token, posted_bytes, token_ms
from recserv.pipeline.pipeline import RecommendationPipeline
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.watch_answers import answer_digest
from recserv.resilience.deadline import MonotonicClock
from recserv.resilience.lru import LruCache
from recserv.stores.explanations_memory import MemoryExplanationStore, Shelf
from recserv.types import ExplainMode, ExplanationState, Priority, RecommendQuery, TemplateCause
from tests.llm.support import Recorder
from tests.memory import bytes_of
from tests.patience import HANG_GUARD_S, eventually_async
from tests.pipeline.enrich_worker import Counted
from tests.pipeline.support import no_hurry, viewed
from tests.stores.support import START_MS, ManualClock

READY, PENDING, TEMPLATE = ExplanationState.READY, ExplanationState.PENDING, ExplanationState.TEMPLATE


def states(answer: Any) -> set[ExplanationState]:
    return {result.explanation_state for result in answer.results}


async def test_templates_stand_until_the_texts_are_there(make: Any) -> None:
    worker = await make()
    worker.writer.gate.clear()
    answer = await worker.ask("item-5")
    assert states(answer) == {PENDING}
    assert [r.explanation for r in answer.results] == [r.reasons[0].text for r in answer.results]
    assert await worker.states(answer.explanation_token) == {PENDING}
    worker.writer.gate.set()
    watched = await worker.watched(answer.explanation_token)
    assert [w.item_id for w in watched] == [r.item_id for r in answer.results]
    assert {w.state for w in watched} == {READY}
    assert all(w.text.startswith("About ") for w in watched)
    assert await worker.board.explanations("default", answer.explanation_token) == tuple(watched)


async def test_a_text_that_was_written_before_is_ready_at_once(make: Any) -> None:
    worker = await make()
    first = await worker.ask("item-5")
    await worker.watched(first.explanation_token)
    second = await worker.ask("item-5")
    assert states(second) == {READY}
    assert second.explanation_token != first.explanation_token
    assert [r.explanation for r in second.results] == [
        e.text for e in await worker.board.explanations("default", first.explanation_token)
    ]
    assert (len(worker.writer.tasks), worker.recorder.lookups) == (1, [5, 5, 0])


async def test_a_thousand_sessions_in_the_same_situation_are_one_call(make: Any) -> None:
    worker = await make()
    worker.writer.gate.clear()
    answers = [await worker.ask("item-5", session_id=f"session-{n}", user_id=f"user-{n}") for n in range(1000)]
    worker.writer.gate.set()
    for answer in answers:
        assert {w.state for w in await worker.watched(answer.explanation_token)} == {READY}
    assert len(worker.writer.tasks) == 1
    assert worker.recorder.lookups == [0, 5, 4995]


@pytest.mark.parametrize(
    "changes", [{"tenant": "another"}, {"locale": "de"}], ids=["another tenant", "another language"]
)
async def test_a_text_is_not_shared_with_another_tenant_or_language(make: Any, changes: dict[str, str]) -> None:
    worker = await make()
    await worker.watched((await worker.ask("item-5")).explanation_token)
    assert states(await worker.ask("item-5", **changes)) == {PENDING}


async def test_another_situation_is_another_text(make: Any) -> None:
    worker = await make()
    await worker.watched((await worker.ask("item-5")).explanation_token)
    assert states(await worker.ask("item-5", "item-10")) == {PENDING}


async def test_a_token_is_bound_to_its_tenant_and_cannot_be_guessed(make: Any) -> None:
    worker = await make()
    answer = await worker.ask("item-5")
    tokens = {new_token(1_800_000_000_000) for _ in range(1000)}
    assert len(tokens) == 1000
    assert {len(token) for token in tokens} == {32}
    assert {token_ms(token) for token in tokens} == {1_800_000_000_000}
    for tenant, token in (("another", answer.explanation_token), ("default", new_token(1)), ("default", "x")):
        with pytest.raises(NotFound):
            await worker.board.explanations(tenant, token)
        with pytest.raises(NotFound):
            await anext(worker.board.watch(tenant, token))


async def test_a_prompt_holds_no_ids_of_the_shopper(make: Any) -> None:
    worker = await make()
    await worker.watched(
        (await worker.ask("item-5", user_id="user-secret", session_id="session-secret")).explanation_token
    )
    assert "secret" not in str(worker.writer.tasks)


@pytest.mark.parametrize("cause", [TemplateCause.PROVIDER_FAILED, TemplateCause.BUDGET_SPENT, TemplateCause.DISCARDED])
async def test_a_job_without_texts_ends_in_templates_that_say_why(make: Any, cause: TemplateCause) -> None:
    worker = await make()
    worker.writer.cause = cause
    answer = await worker.ask("item-5")
    watched = await worker.watched(answer.explanation_token)
    assert {(w.state, w.cause) for w in watched} == {(TEMPLATE, cause)}
    assert [w.text for w in watched] == [r.reasons[0].text for r in answer.results]


async def test_a_failure_is_not_remembered_for_the_next_shopper(make: Any) -> None:
    worker = await make()
    worker.writer.cause = TemplateCause.PROVIDER_FAILED
    first = await worker.ask("item-5")
    await worker.watched(first.explanation_token)
    worker.writer.cause = TemplateCause.UNSPECIFIED
    second = await worker.ask("item-5")
    assert {w.state for w in await worker.watched(second.explanation_token)} == {READY}
    assert await worker.states(first.explanation_token) == {TEMPLATE}


async def test_items_that_the_model_left_out_are_templates(make: Any) -> None:
    worker = await make()
    worker.writer.skip = 2
    watched = await worker.watched((await worker.ask("item-5")).explanation_token)
    assert sorted(w.state for w in watched) == [READY, READY, READY, TEMPLATE, TEMPLATE]


async def test_a_job_that_breaks_ends_all_the_same(make: Any) -> None:
    worker = await make()
    worker.writer.error = RuntimeError("a bug")
    watched = await worker.watched((await worker.ask("item-5")).explanation_token)
    assert {(w.state, w.cause) for w in watched} == {(TEMPLATE, TemplateCause.PROVIDER_FAILED)}


async def test_while_nothing_can_be_written_nothing_is_queued(make: Any) -> None:
    worker = await make()
    worker.writer.shut = TemplateCause.BUDGET_SPENT
    answer = await worker.ask("item-5")
    assert states(answer) == {TEMPLATE}
    assert worker.writer.tasks == []
    told = await worker.board.explanations("default", answer.explanation_token)
    assert {e.cause for e in told} == {TemplateCause.BUDGET_SPENT}


async def test_no_more_jobs_at_once_than_may_be(make: Any) -> None:
    worker = await make(in_flight_max=3)
    worker.writer.gate.clear()
    answers = [await worker.ask(f"item-{n}") for n in range(8)]
    await eventually_async(lambda: worker.writer.at_once == 3)
    assert (worker.writer.at_once, len(worker.runner.queue)) == (3, 5)
    worker.writer.gate.set()
    for answer in answers:
        await worker.watched(answer.explanation_token)
    assert worker.writer.at_once_max == 3


async def test_a_full_queue_drops_what_matters_least(make: Any) -> None:
    worker = await make(in_flight_max=1, queue_max=2)
    worker.writer.gate.clear()
    running = await worker.ask("item-0", priority=Priority.LOW)
    await eventually_async(lambda: worker.writer.at_once == 1)
    low = await worker.ask("item-1", priority=Priority.LOW)
    normal = await worker.ask("item-2")
    high = await worker.ask("item-3", placement="cart")
    assert await worker.states(low.explanation_token) == {TEMPLATE}
    late = await worker.ask("item-4", priority=Priority.LOW)
    assert states(late) == {TEMPLATE}
    assert worker.recorder.drops == {"queue_low": 2}
    worker.writer.gate.set()
    for answer in (running, normal, high):
        assert {w.state for w in await worker.watched(answer.explanation_token)} == {READY}
    [first, *_] = [task.situation.items[0].title for task in worker.writer.tasks[1:]]
    assert first.endswith(" 3"), "the highest priority goes first"


async def test_what_a_full_queue_refuses_is_counted_in_jobs_and_leaves_nothing_behind(make: Any) -> None:
    worker = await make(in_flight_max=1, queue_max=3, items_per_call=2)
    worker.writer.gate.clear()
    queued = await worker.ask("item-1")
    assert len(worker.runner.queue) == 3
    in_the_making = len(worker.runner._slots)
    late = await worker.ask("item-4")
    assert len(worker.runner._slots) == in_the_making
    told = await worker.board.explanations("default", late.explanation_token)
    fresh = [e for e in told if e.cause is TemplateCause.QUEUE_FULL]
    joined = [e for e in told if e.state is PENDING]
    assert len(fresh) + len(joined) == 5
    assert worker.recorder.drops == {"queue_normal": -(-len(fresh) // 2)}
    # Room again: what was refused is not held against the next who asks.
    worker.writer.gate.set()
    await worker.watched(queued.explanation_token)
    again = await worker.ask("item-4")
    assert {w.state for w in await worker.watched(again.explanation_token)} == {READY}


async def test_what_hangs_ends_at_its_deadline_for_watchers_and_pollers(
    virtual: MonotonicClock, make: Any, clock: ManualClock
) -> None:
    began_s = virtual()
    wall_clock = lambda: clock.now_ms + round(1000 * (virtual() - began_s))  # noqa: E731
    worker = await make(in_flight_max=1, job_deadline_s=0.3, clock=wall_clock)
    worker.writer.gate.clear()
    first, second = await worker.ask("item-5"), await worker.ask("item-6")
    both = await asyncio.gather(*[worker.watched(a.explanation_token) for a in (first, second)])
    for watched in both:
        assert {(w.state, w.cause) for w in watched} == {(TEMPLATE, TemplateCause.EXPIRED)}
    assert virtual() - began_s == pytest.approx(0.3 + GRACE_MS / 1000, abs=0.01)
    assert await worker.states(first.explanation_token) == {TEMPLATE}


async def test_a_watcher_that_leaves_leaves_nothing_behind(make: Any) -> None:
    worker = await make()
    worker.writer.gate.clear()
    answer = await worker.ask("item-5")
    slots = [entry.slot for entry in worker.board._local("default", answer.explanation_token).entries]
    watching = asyncio.create_task(worker.watched(answer.explanation_token))
    await eventually_async(lambda: all(slot.watchers for slot in slots))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert [slot.watchers for slot in slots] == [[]] * 5


async def test_a_long_page_is_several_calls(make: Any) -> None:
    worker = await make(items_per_call=2)
    watched = await worker.watched((await worker.ask("item-5")).explanation_token)
    assert {w.state for w in watched} == {READY}
    assert [len(task.items) for task in worker.writer.tasks] == [2, 2, 1]


async def test_another_worker_serves_the_token(make: Any) -> None:
    shelf = Shelf()
    one, two = await make(shelf, "one"), await make(shelf, "two")
    one.writer.gate.clear()
    answer = await one.ask("item-5")
    assert await two.states(answer.explanation_token) == {PENDING}
    reads = Counted(two.store, "outcomes")
    watching = asyncio.create_task(two.watched(answer.explanation_token))
    await eventually_async(lambda: reads.calls)
    one.writer.gate.set()
    watched = await watching
    assert {w.state for w in watched} == {READY}
    assert sorted(w.text for w in watched) == sorted(w.text for w in await one.watched(answer.explanation_token))
    with pytest.raises(NotFound):
        await two.board.explanations("another", answer.explanation_token)


async def test_two_workers_with_the_same_key_make_one_call(make: Any) -> None:
    shelf = Shelf()
    one, two = await make(shelf, "one"), await make(shelf, "two")
    one.writer.gate.clear()
    first = await one.ask("item-5")
    await one.outbox.idle.wait()
    await eventually_async(lambda: one.writer.at_once)
    claims = Counted(two.store, "claim")
    second = await two.ask("item-5")
    await eventually_async(lambda: claims.calls > 1)
    one.writer.gate.set()
    assert {w.state for w in await two.watched(second.explanation_token)} == {READY}
    assert {w.state for w in await one.watched(first.explanation_token)} == {READY}
    assert (len(one.writer.tasks), len(two.writer.tasks)) == (1, 0)
    assert states(await two.ask("item-5")) == {READY}


async def test_a_dead_workers_jobs_are_finished_by_another(make: Any) -> None:
    shelf = Shelf()
    one = await make(shelf, "one", in_flight_max=1)
    one.writer.gate.clear()
    answers = [await one.ask(f"item-{n}") for n in range(4)]
    await one.outbox.idle.wait()
    await one.die()
    shelf.leases["one"] = 0
    two = await make(shelf, "two")
    for answer in answers:
        assert {w.state for w in await two.watched(answer.explanation_token)} == {READY}
    assert len(two.writer.tasks) == 4


async def test_a_final_template_stays_one_when_a_later_attempt_succeeds_elsewhere(
    make: Any, clock: ManualClock
) -> None:
    shelf = Shelf()
    one, two = await make(shelf, "one"), await make(shelf, "two")
    one.writer.cause = TemplateCause.PROVIDER_FAILED
    first = await one.ask("item-5")
    await one.watched(first.explanation_token)
    await one.outbox.idle.wait()
    assert await two.states(first.explanation_token) == {TEMPLATE}
    clock.advance(5)
    second = await two.ask("item-5")
    assert {w.state for w in await two.watched(second.explanation_token)} == {READY}
    await two.outbox.idle.wait()
    assert await one.states(second.explanation_token) == {READY}
    assert await two.states(first.explanation_token) == {TEMPLATE}


async def test_without_a_model_any_worker_knows_the_templates_of_a_token(engine: Any, clock: ManualClock) -> None:
    shelf = Shelf()
    boards = []
    for name in ("one", "two"):
        store = MemoryExplanationStore(clock, shelf=shelf, worker=name)
        outbox = Outbox(store, clock, Recorder())
        outbox.start()
        boards.append((ExplanationBoard(clock, store=store, outbox=outbox), outbox))
    pipeline = RecommendationPipeline(engine, None, PipelineSettings(), board=boards[0][0])
    query = RecommendQuery(context_events=viewed("item-5"), explain=ExplainMode.LLM_ASYNC)
    answer = await pipeline.recommend(query, no_hurry())
    assert states(answer) == {TEMPLATE}
    told = await boards[1][0].explanations("default", answer.explanation_token)
    assert {(e.state, e.cause) for e in told} == {(TEMPLATE, TemplateCause.NOT_CONFIGURED)}
    for _, outbox in boards:
        await outbox.close()


@pytest.mark.parametrize(
    ("changes", "tier", "priority"),
    [
        ({}, "simple", Priority.NORMAL),
        ({"items": ["item-5"]}, "detailed", Priority.NORMAL),
        ({"items": ["item-5"], "placement": "cart"}, "detailed", Priority.HIGH),
        ({"items": ["item-5"], "anchors": ["item-7"], "placement": "cart"}, "complex", Priority.HIGH),
        ({"items": ["item-5"], "anchors": ["item-7"], "placement": "email"}, "detailed", Priority.LOW),
        ({"items": ["item-5"], "anchors": ["item-7"], "priority": Priority.HIGH}, "complex", Priority.HIGH),
        ({"placement": "cart", "priority": Priority.LOW}, "simple", Priority.LOW),
        ({"placement": "teaser"}, "complex", Priority.LOW),
    ],
)
async def test_the_class_of_a_request_decides_tier_and_priority(
    make: Any, changes: dict[str, Any], tier: str, priority: Priority
) -> None:
    worker = await make(placement_tier={"teaser": "complex"}, placement_priority={"teaser": "low"})
    items, anchors = changes.pop("items", []), tuple(changes.pop("anchors", []))
    seen: list[Priority] = []
    put = worker.runner.queue.put
    worker.runner.queue.put = lambda job: seen.append(job.priority) or put(job)
    answer = await worker.ask(*items, anchor_item_ids=anchors, **changes)
    await worker.watched(answer.explanation_token)
    assert (worker.writer.tasks[0].tier, seen) == (tier, [priority])


async def test_the_texts_of_a_job_are_shared_in_one_step(make: Any) -> None:
    worker = await make(Shelf(), "one")
    steps: list[tuple[int, bool]] = []
    settle = worker.store.settle

    async def counted(tenant: str, job_id: str, outcomes: Any, *, done: bool) -> None:
        steps.append((len(outcomes), done))
        await settle(tenant, job_id, outcomes, done=done)

    worker.store.settle = counted
    await worker.watched((await worker.ask("item-5")).explanation_token)
    await worker.outbox.idle.wait()
    assert steps == [(5, True)]


async def test_a_shared_store_that_is_away_leaves_the_worker_on_its_own(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrich_outbox, "RETRY_S", 0.001)
    worker = await make(Shelf(), "one")

    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("gone")

    worker.store.publish = worker.store.settle = worker.store.claim = worker.store.beat = away
    answer = await worker.ask("item-5")
    watched = await worker.watched(answer.explanation_token)
    assert {(w.state, w.cause) for w in watched} == {(TEMPLATE, TemplateCause.PROVIDER_FAILED)}
    await asyncio.wait_for(worker.outbox.idle.wait(), HANG_GUARD_S)
    assert worker.recorder.drops["outbox"] >= 3


@pytest.mark.parametrize("items", [1, 10, 100])
def test_tokens_are_as_large_as_they_are_said_to_be(items: int) -> None:
    sizes: list[int] = []

    def posted(number: int) -> tuple[tuple[str, str], Posted]:
        entries = []
        for at in range(items):
            text, key = f"Often bought with COFFEE FILTERS {number} {at} in your cart", bytes([at] * 16)
            entries.append(Entry("an item's own id", text, key, slot=None if at % 2 else Slot("t", key)))
        made = Posted(tuple(entries), START_MS + number, START_MS + number)
        sizes.append(posted_bytes(made))
        return ("default", new_token(START_MS + number)), made

    def fill() -> LruCache[tuple[str, str], Posted]:
        kept: LruCache[tuple[str, str], Posted] = LruCache(1000)
        for number in range(1000 // items):
            kept.put(*posted(number))
        return kept

    measured = bytes_of(fill)
    assert 0.85 < sum(sizes) / measured < 1.15


async def test_the_oldest_tokens_are_forgotten_beyond_their_bytes(engine: Any, clock: ManualClock) -> None:
    board = ExplanationBoard(clock, tokens_bytes_max=20_000)
    pipeline = RecommendationPipeline(engine, None, PipelineSettings(), board=board, clock=clock)
    query = RecommendQuery(context_events=viewed("item-5"), explain=ExplainMode.LLM_ASYNC)
    tokens = [(await pipeline.recommend(query, no_hurry())).explanation_token for _ in range(20)]
    assert await board.explanations("default", tokens[-1])
    with pytest.raises(NotFound):
        await board.explanations("default", tokens[0])
    assert board._tokens.bytes <= 20_000
    clock.advance(601_000)
    await pipeline.recommend(query, no_hurry())
    assert len(board._tokens) == 1


async def test_for_an_answer_that_a_watch_has_sent_already_no_texts_are_asked_for(make: Any) -> None:
    worker = await make()
    first = await worker.ask("item-5")
    await worker.watched(first.explanation_token)
    asked = list(worker.recorder.lookups)
    again = await worker.ask("item-5", known_answer=answer_digest(first))
    assert (again.explanation_token, answer_digest(again)) == ("", answer_digest(first))
    assert (len(worker.writer.tasks), worker.recorder.lookups) == (1, asked)
    other = await worker.ask("item-6", known_answer=answer_digest(first))
    assert other.explanation_token not in ("", first.explanation_token)
