from __future__ import annotations

import asyncio
import threading

import pytest

from recserv.pipeline.side_thread import SideThread, TooManyWaiting, within
from tests.patience import HANG_GUARD_S, eventually_async


class Clock:
    now_s = 10.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_job_gives_its_result_or_its_error() -> None:
    side = SideThread("side")
    assert await within(side.start(lambda a, b: a + b, 2, 3), HANG_GUARD_S) == 5
    with pytest.raises(ZeroDivisionError):
        await within(side.start(lambda: 1 / 0), HANG_GUARD_S)
    side.close()


async def test_a_thread_that_is_stuck_is_replaced_up_to_a_bound() -> None:
    clock, released = Clock(), threading.Event()
    side = SideThread("side", threads_max=2, stuck_s=1.0, clock=clock)
    for _ in range(2):
        begun = threading.Event()
        stuck = side.start(lambda begun=begun: (begun.set(), released.wait(HANG_GUARD_S)))
        assert await asyncio.to_thread(begun.wait, HANG_GUARD_S)
        with pytest.raises(TimeoutError):
            await within(stuck, 0.0)
        clock.now_s += 1.0
    with pytest.raises(TooManyWaiting):
        side.start(int)
    assert side.threads == 2
    released.set()

    async def takes_jobs_with_one_thread() -> bool:
        try:
            return await within(side.start(lambda: side.threads), HANG_GUARD_S) == 1
        except TooManyWaiting:
            return False

    await eventually_async(takes_jobs_with_one_thread)
    side.close()


async def test_a_job_that_nobody_waits_for_any_more_is_not_begun() -> None:
    side, released, begun = SideThread("side", clock=Clock()), threading.Event(), []
    first = side.start(released.wait, HANG_GUARD_S)
    late = side.start(begun.append, "late")
    with pytest.raises(TimeoutError):
        await within(late, 0.0)
    released.set()
    await within(first, HANG_GUARD_S)
    await within(side.start(begun.append, "next"), HANG_GUARD_S)
    assert begun == ["next"]
    assert side.pending == 0
    side.close()


async def test_after_a_close_a_job_starts_another_thread() -> None:
    side = SideThread("side")
    await within(side.start(int), HANG_GUARD_S)
    side.close()
    assert await within(side.start(int), HANG_GUARD_S) == 0
    side.close()
