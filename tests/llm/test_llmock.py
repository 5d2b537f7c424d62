"""The client and the writer against llmock: every fault it can play, and its verdict on how they took it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from recserv.llm.base import Deadline, Usage
from recserv.types import TemplateCause
from tests.llm.mock_provider import MockProvider
from tests.llm.support import Rig, answer, settings, task
from tests.patience import HANG_GUARD_S, eventually_async

GOOD = {"type": "reply", "text": answer("Goes well with the mug", "Made for the same kitchen"), "times": None}
WANTED = task("Blue bowl", "Red spoon")
NEVER_S = 10 * HANG_GUARD_S


@pytest.fixture
async def rig(provider: MockProvider) -> AsyncIterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(*models: str, **changes: object) -> Rig:
        one = Rig(settings(provider.base_url, *models, **changes))

        async def sleep(seconds: float) -> None:
            one.clock.slept_s.append(seconds)
            await asyncio.sleep(seconds)

        # The provider judges the pauses by a clock of its own.
        one.writer.sleep = sleep
        made.append(one)
        return one

    yield make
    for one in made:
        await one.writer.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_texts_arrive_with_their_usage(provider: MockProvider, rig: Callable[..., Rig], stream: bool) -> None:
    provider.script(GOOD)
    one = rig(stream=stream)
    written = await one.write(WANTED)
    assert written.texts == {b"\x00": "Goes well with the mug", b"\x01": "Made for the same kitchen"}
    assert (written.cause, written.attempts) == (TemplateCause.UNSPECIFIED, 1)
    assert one.landed == list(written.texts.items())
    [(usage, estimated)] = one.recorder.usages
    assert usage.input_tokens > 50
    assert usage.output_tokens > 5
    assert not estimated
    assert one.recorder.cost == usage.input_tokens * 1000 + usage.output_tokens * 2000
    assert provider.findings() == []


async def test_a_streamed_text_lands_before_the_answer_is_whole(
    provider: MockProvider, rig: Callable[..., Rig]
) -> None:
    """The stream stalls after the first text: it is there all the same, long before the attempt's time is up."""
    provider.script(GOOD, {"type": "stream_fault", "kind": "stall", "after_chunks": 9, "stall_seconds": NEVER_S})
    one = rig()
    writing = asyncio.create_task(one.write(WANTED))
    await eventually_async(lambda: one.landed)
    assert one.landed == [(b"\x00", "Goes well with the mug")]
    assert not writing.done()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


@pytest.mark.parametrize(("status", "stream"), [(500, True), (503, False)])
async def test_a_server_error_is_tried_again_once(
    provider: MockProvider, rig: Callable[..., Rig], status: int, stream: bool
) -> None:
    provider.script(GOOD, {"type": "fail", "status": status})
    one = rig(stream=stream)
    written = await one.write(WANTED)
    assert (len(written.texts), written.attempts) == (2, 2)
    assert one.recorder.outcomes == ["provider_down", "ok"]
    assert provider.findings() == []


async def test_never_more_than_two_attempts_at_one_model(provider: MockProvider, rig: Callable[..., Rig]) -> None:
    provider.script({"type": "fail", "status": 503, "times": None})
    written = await rig().write(WANTED)
    assert (written.texts, written.cause, written.attempts) == ({}, TemplateCause.PROVIDER_FAILED, 2)
    assert len(provider.requests()) == 2
    assert provider.findings() == []


async def test_a_rate_limit_is_waited_for_as_long_as_it_says(provider: MockProvider, rig: Callable[..., Rig]) -> None:
    wait_s = 0.8
    provider.script(GOOD, {"type": "fail", "status": 429, "retry_after": wait_s})
    written = await rig().write(WANTED)
    assert len(written.texts) == 2
    first, second = provider.requests()
    assert second["started_at"] - first["ended_at"] >= wait_s
    assert provider.findings() == []


async def test_a_rate_limit_that_outlasts_the_job_moves_on_to_the_next_model(
    provider: MockProvider, rig: Callable[..., Rig]
) -> None:
    provider.script(GOOD, {"type": "fail", "status": 429, "retry_after": NEVER_S, "match": {"model": "small"}})
    one = rig("small", "large")
    written = await one.write(WANTED)
    assert len(written.texts) == 2
    assert one.recorder.calls == [("small", "rate_limited"), ("large", "ok")]
    assert one.clock.slept_s == []


async def test_5xx_moves_down_the_chain_without_asking_again(provider: MockProvider, rig: Callable[..., Rig]) -> None:
    provider.script(GOOD, {"type": "fail", "status": 500, "match": {"model": "small"}, "times": None})
    one = rig("small", "large")
    written = await one.write(WANTED)
    assert len(written.texts) == 2
    assert one.recorder.calls == [("small", "provider_down"), ("large", "ok")]


async def test_a_provider_that_is_silent_is_left_for_the_next_model(
    provider: MockProvider, rig: Callable[..., Rig]
) -> None:
    provider.script(GOOD, {"type": "delay", "seconds": NEVER_S, "match": {"model": "small"}, "times": None})
    one = rig("small", "large")
    one.give_up_first_attempt()
    written = await one.write(WANTED)
    assert len(written.texts) == 2
    assert one.recorder.calls == [("small", "timed_out"), ("large", "ok")]


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [("disconnect", "provider_down"), ("truncate", "bad_answer"), ("malformed", "bad_answer")],
)
@pytest.mark.parametrize("after_chunks", [pytest.param(0, marks=pytest.mark.slow), 3])
async def test_a_broken_stream_is_a_failed_call_and_tried_again(
    provider: MockProvider, rig: Callable[..., Rig], kind: str, outcome: str, after_chunks: int
) -> None:
    provider.script(GOOD, {"type": "stream_fault", "kind": kind, "after_chunks": after_chunks})
    one = rig()

    async def until_it_is_noted(seconds: float) -> None:
        """An attempt that begins while the provider still counts the one before is not judged as its repetition."""
        await eventually_async(lambda: len(provider.requests()) == 1)

    one.writer.sleep = until_it_is_noted
    written = await one.write(WANTED)
    assert len(written.texts) == 2
    assert one.recorder.outcomes == [outcome, "ok"]
    assert provider.findings() == []


@pytest.mark.parametrize("after_chunks", [pytest.param(0, marks=pytest.mark.slow), 3])
async def test_a_stream_that_stalls_is_left_for_the_next_model(
    provider: MockProvider, rig: Callable[..., Rig], after_chunks: int
) -> None:
    fault = {"type": "stream_fault", "kind": "stall", "after_chunks": after_chunks, "stall_seconds": NEVER_S}
    provider.script(GOOD, fault | {"match": {"model": "small"}, "times": None})
    one = rig("small", "large")
    one.give_up_first_attempt()
    written = await one.write(WANTED)
    assert len(written.texts) == 2
    assert one.recorder.calls == [("small", "timed_out"), ("large", "ok")]
    assert provider.findings() == []


async def test_a_prompt_that_is_too_long_shrinks_until_it_fits(provider: MockProvider, rig: Callable[..., Rig]) -> None:
    too_long = {"type": "fail", "status": 400, "code": "context_length_exceeded", "times": 3}
    provider.script(GOOD, too_long | {"message": "This model's maximum context length is 10 tokens."})
    one = rig()
    written = await one.write(task("Blue bowl", "Red spoon", events=2))
    assert one.recorder.outcomes == ["context_too_long"] * 3 + ["ok"]
    events = [len(_data(request).get("situation", {}).get("products", ())) for request in provider.requests()]
    items = [len(_data(request)["products"]) for request in provider.requests()]
    assert (events, items) == ([2, 1, 0, 0], [2, 2, 2, 1])
    assert written.texts == {b"\x00": "Goes well with the mug"}
    assert (written.attempts, written.cause) == (1, TemplateCause.DISCARDED)
    assert provider.findings() == []


@pytest.mark.parametrize("status", [403, 422])
async def test_what_will_fail_again_is_not_tried_again(
    provider: MockProvider, rig: Callable[..., Rig], status: int
) -> None:
    provider.script({"type": "fail", "status": status, "times": None})
    written = await rig().write(WANTED)
    assert (written.attempts, written.cause) == (1, TemplateCause.PROVIDER_FAILED)
    assert provider.findings() == []


async def test_nonsense_is_discarded_and_counted(provider: MockProvider, rig: Callable[..., Rig]) -> None:
    """What llmock says by itself: JSON of other products when JSON is asked for."""
    one = rig()
    written = await one.write(WANTED)
    assert (written.texts, written.cause, written.attempts) == ({}, TemplateCause.DISCARDED, 2)
    assert one.recorder.discards == {"unknown_item": 2}


async def test_prose_is_discarded_and_counted(provider: MockProvider, rig: Callable[..., Rig]) -> None:
    provider.script({"type": "reply", "text": "Certainly! Here are your explanations.", "times": None})
    one = rig()
    written = await one.write(WANTED)
    assert (written.texts, written.cause, written.attempts) == ({}, TemplateCause.DISCARDED, 2)
    assert one.recorder.discards == {"schema": 2}


async def test_embeddings_come_in_order(provider: MockProvider, rig: Callable[..., Rig]) -> None:
    client = rig().client
    vectors, usage = await client.embed("text-embedding-3-small", ["a mug", "a bowl"], Deadline(HANG_GUARD_S))
    [alone], _ = await client.embed("text-embedding-3-small", ["a bowl"], Deadline(HANG_GUARD_S))
    assert len(vectors) == 2
    assert vectors[1] == alone
    assert vectors[0] != vectors[1]
    assert isinstance(usage, Usage)


async def test_nothing_of_the_shops_ids_reaches_the_provider(provider: MockProvider, rig: Callable[..., Rig]) -> None:
    provider.script(GOOD)
    await rig().write(WANTED)
    [request] = provider.requests()
    assert "default" not in str(request["body"])


def _data(request: dict) -> dict:
    import json

    return dict(json.loads(request["body"]["messages"][1]["content"]))
