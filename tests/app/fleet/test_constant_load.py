"""The load that finds failures excuses none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from recserv.client import AsyncRecommendationClient
from recserv.types import Recommendation
from tests.app.fleet.constant_load import ConstantLoad, under_load


class Broken:
    """Fails at every call as no server makes it fail."""

    def __getattr__(self, name: str) -> Callable[..., Awaitable[None]]:
        async def call(*_: object) -> None:
            raise KeyError(name)

        return call

    def event_stream(self) -> None:
        raise KeyError("stream")


def pass_all(answer: Recommendation) -> None: ...


async def test_a_call_that_fails_for_whatever_reason_is_kept() -> None:
    load, client = ConstantLoad(pass_all, seed=1), cast(AsyncRecommendationClient, Broken())
    for _ in range(10):
        await load._call(client)
    await load._stream(client)
    assert len(load.failed) == 11
    assert all("KeyError" in failure for failure in load.failed)


async def test_a_load_that_breaks_down_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(load: ConstantLoad, target: str) -> None:
        raise KeyError("broken")

    monkeypatch.setattr(ConstantLoad, "run", run)
    with pytest.raises(KeyError, match="broken"):
        async with under_load("127.0.0.1:1", pass_all, seed=1):
            await asyncio.sleep(0)


async def test_a_load_that_is_ended_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(load: ConstantLoad, target: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(ConstantLoad, "run", run)
    async with under_load("127.0.0.1:1", pass_all, seed=1) as load:
        await asyncio.sleep(0)
    assert load.failed == []
