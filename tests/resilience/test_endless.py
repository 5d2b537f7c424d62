"""Work beside the requests goes on after what nobody foresaw."""

from __future__ import annotations

import asyncio
import logging

import pytest

from recserv.resilience.endless import endless
from tests.patience import HANG_GUARD_S, eventually_async

logger = logging.getLogger("test")


async def test_work_that_breaks_begins_again_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[int] = []

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) < 4:
            raise KeyError("nobody foresaw it")
        await asyncio.Event().wait()

    task = asyncio.ensure_future(endless(work, "work", logger, pause_s=0.0))
    await eventually_async(lambda: len(begun) == 4)
    for _ in range(100):
        await asyncio.sleep(0)
    assert (begun, task.done()) == ([0, 1, 2, 3], False)
    assert [record.message for record in caplog.records] == ["broke and begins again"] * 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_does_not_turn_in_circles_without_a_pause() -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        raise KeyError("at once")

    task = asyncio.ensure_future(endless(work, "work", logger, pause_s=HANG_GUARD_S))
    for _ in range(100):
        await asyncio.sleep(0)
    assert begun == 1
    task.cancel()


async def test_work_that_returns_is_not_started_again() -> None:
    async def work() -> None:
        pass

    await asyncio.wait_for(endless(work, "work", logger), HANG_GUARD_S)
