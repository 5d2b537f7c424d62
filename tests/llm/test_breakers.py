"""Models that are left alone: no call, no wait where there is another, a probe later."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from recserv.llm import writer
from recserv.llm.prompts import Shape, build
from recserv.resilience.breaker import BreakerState
from recserv.resilience.quiet_log import QuietLog
from recserv.types import TemplateCause
from tests.llm.plain_provider import PlainProvider, Reply, good
from tests.llm.support import Rig, settings, task

WANTED = task("Blue bowl", "Red spoon")


@pytest.fixture
async def provider() -> AsyncIterator[PlainProvider]:
    async with PlainProvider() as provider:
        yield provider


async def opened(rig: Rig, name: str) -> None:
    breaker = rig.routes.models[name].breaker
    while permit := breaker.acquire():
        breaker.fail(permit, 0.1)


async def test_a_model_that_is_left_alone_costs_no_attempt(provider: PlainProvider) -> None:
    rig = Rig(settings(provider.base_url, "small", "large"))
    await opened(rig, "small")
    written = await rig.write(WANTED)
    assert (len(written.texts), written.attempts) == (2, 1)
    assert rig.recorder.calls == [("large", "ok")]
    await rig.writer.close()


async def test_failures_open_the_breaker_and_success_closes_it(provider: PlainProvider) -> None:
    provider.behave = lambda asked: Reply(status=503)
    rig = Rig(settings(provider.base_url, attempts_max=1))
    for _ in range(20):
        await rig.write(WANTED)
    assert rig.writer.closed() is TemplateCause.PROVIDER_FAILED
    asked = len(provider.asked)
    provider.behave = good
    written = await rig.write(WANTED)
    assert rig.clock.slept_s
    assert len(written.texts) == 2, "a job that was taken on waits for the probe"
    assert len(provider.asked) == asked + 1
    for _ in range(2):
        assert rig.writer.closed() is TemplateCause.UNSPECIFIED, "a free probe is there for the next job"
        await rig.write(WANTED)
    assert rig.routes.models["small"].breaker.state is BreakerState.CLOSED
    await rig.writer.close()


async def test_a_job_that_cannot_wait_so_long_ends(provider: PlainProvider) -> None:
    rig = Rig(settings(provider.base_url, breaker_wait_s=30.0))
    await opened(rig, "small")
    written = await rig.write(WANTED, seconds=0.2)
    assert (written.texts, written.cause, written.attempts) == ({}, TemplateCause.PROVIDER_FAILED, 0)
    assert provider.asked == []
    await rig.writer.close()


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_our_own_faults_are_not_held_against_a_model(provider: PlainProvider, status: int) -> None:
    provider.behave = lambda asked: Reply(status=status)
    rig = Rig(settings(provider.base_url), uniform=lambda: 0.0)
    for _ in range(25):
        await rig.write(WANTED)
    assert rig.writer.closed() is TemplateCause.UNSPECIFIED
    await rig.writer.close()


@pytest.mark.parametrize("models", [("small",), ("small", "large")])
async def test_a_prompt_that_no_model_takes_ends_its_job(provider: PlainProvider, models: tuple[str, ...]) -> None:
    """Even at its smallest; asking again until the deadline would not make it fit."""
    provider.behave = lambda asked: Reply(status=413)
    rig = Rig(settings(provider.base_url, *models), uniform=lambda: 0.0)
    written = await rig.write(WANTED)
    assert (written.texts, written.cause, written.attempts) == ({}, TemplateCause.PROVIDER_FAILED, 0)
    sizes = [len(asked.labels) for asked in provider.asked]
    assert sizes == [2, 2, 2, 1] + [1] * (len(models) - 1)
    await rig.writer.close()


async def test_a_job_that_waits_for_a_breaker_makes_its_prompt_once(
    provider: PlainProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Shape] = []
    monkeypatch.setattr(writer, "build", lambda task, shape: built.append(shape) or build(task, shape))
    rig = Rig(settings(provider.base_url, "small", "large"), uniform=lambda: 0.0)
    await opened(rig, "small")
    await opened(rig, "large")
    assert len((await rig.write(WANTED)).texts) == 2
    assert len(rig.clock.slept_s) > 1
    assert len(built) == 1
    provider.behave = lambda asked: Reply(status=413) if len(asked.labels) > 1 else good(asked)
    await rig.write(WANTED)
    assert built[1:] == [Shape(2, 2), Shape(1, 2), Shape(0, 2), Shape(0, 1)]
    await rig.writer.close()


async def test_an_outage_is_one_line_in_the_log_for_each_kind_of_failure(
    provider: PlainProvider, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "logger", QuietLog(logging.getLogger("recserv.llm"), clock=lambda: 0.0))
    rig = Rig(settings(provider.base_url, attempts_max=1))
    with caplog.at_level(logging.INFO):
        for status in [503, 429] * 5:
            provider.behave = lambda asked, status=status: Reply(status=status)
            await rig.write(WANTED)
    fields = [vars(record)["fields"] for record in caplog.records if record.message == "a call to the model failed"]
    assert [found["outcome"] for found in fields] == ["provider_down", "rate_limited"]
    await rig.writer.close()
