from __future__ import annotations

import asyncio
import threading

import pytest

from recserv.pipeline.side_thread import SideThread, TooManyWaiting, within


class Clock:
    now_s = 10.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_job_gives_its_result_or_its_error() -> None:
    side = SideThread("side")
    assert await within(side.start(lambda a, b: a + b, 2, 3), 5.0) == 5
    with pytest.raises(ZeroDivisionError):
        await within(side.start(lambda: 1 / 0), 5.0)
    side.close()


async def test_a_thread_that_is_stuck_is_replaced_up_to_a_bound() -> None:
    clock, released = Clock(), threading.Event()
    side = SideThread("side", threads_max=2, stuck_s=1.0, clock=clock)
    for _ in range(2):
        begun = threading.Event()
        stuck = side.start(lambda begun=begun: (begun.set(), released.wait(30)))
        assert await asyncio.to_thread(begun.wait, 10)
        with pytest.raises(TimeoutError):
            await within(stuck, 0.0)
        clock.now_s += 1.0
    with pytest.raises(TooManyWaiting):
        side.start(int)
    assert side.threads == 2
    released.set()
    while side.threads == 2:
        await asyncio.sleep(0.01)
        try:
            assert await within(side.start(int), 5.0) == 0
        except TooManyWaiting:
            continue
    side.close()


async def test_a_job_that_nobody_waits_for_any_more_is_not_begun() -> None:
    side, released, begun = SideThread("side"), threading.Event(), []
    first = side.start(released.wait, 30)
    late = side.start(begun.append, "late")
    with pytest.raises(TimeoutError):
        await within(late, 0.0)
    released.set()
    await within(first, 10.0)
    await within(side.start(begun.append, "next"), 10.0)
    assert begun == ["next"]
    assert side.pending == 0
    side.close()


async def test_after_a_close_a_job_starts_another_thread() -> None:
    side = SideThread("side")
    await within(side.start(int), 5.0)
    side.close()
    assert await within(side.start(int), 5.0) == 0
    side.close()
