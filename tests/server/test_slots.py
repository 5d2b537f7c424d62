"""A call's handling is begun before its task is."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from recserv.server.slots import begun


async def test_the_first_step_is_taken_at_once_and_the_rest_when_awaited() -> None:
    steps: list[str] = []
    gate = asyncio.get_running_loop().create_future()

    async def work() -> str:
        steps.append("begun")
        steps.append(await gate)
        await asyncio.sleep(0)
        steps.append(await asyncio.to_thread(str, "thread"))
        return "done"

    rest = begun(work())
    assert steps == ["begun"]
    task = asyncio.ensure_future(rest)
    await asyncio.sleep(0)
    assert steps == ["begun"]
    gate.set_result("gate")
    assert await task == "done"
    assert steps == ["begun", "gate", "thread"]


async def test_what_it_waited_for_may_have_come_before_it_is_awaited() -> None:
    gate = asyncio.get_running_loop().create_future()

    async def work() -> object:
        return await gate

    rest = begun(work())
    gate.set_result(1)
    await asyncio.sleep(0)
    assert await rest == 1


async def test_work_of_one_step_is_over_and_its_value_kept() -> None:
    async def work() -> int:
        return 7

    assert await begun(work()) == 7


async def test_an_error_of_the_first_step_is_raised_where_it_is_awaited() -> None:
    async def work() -> None:
        raise KeyError("first")

    rest = begun(work())
    with pytest.raises(KeyError, match="first"):
        await rest


@pytest.mark.parametrize("catches", [False, True])
async def test_cancelling_whoever_awaits_it_reaches_it(catches: bool) -> None:
    seen: list[str] = []

    async def work() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            if not catches:
                raise
            await asyncio.sleep(0)
        return "caught"

    task = asyncio.ensure_future(begun(work()))
    await asyncio.sleep(0)
    task.cancel()
    if catches:
        assert await task == "caught"
    else:
        with pytest.raises(asyncio.CancelledError):
            await task
    assert seen == ["cancelled"]


async def test_an_error_of_what_it_waits_for_is_its_to_handle() -> None:
    gate = asyncio.get_running_loop().create_future()

    async def work() -> str:
        try:
            await gate
        except ValueError:
            return "handled"
        return "not raised"

    rest = begun(work())
    gate.set_exception(ValueError("x"))
    assert await rest == "handled"


async def test_what_was_cancelled_is_gone_at_once() -> None:
    """Calls are cancelled most when there are most of them: they must not wait for the collector."""

    class Held:
        pass

    async def work(later: bool) -> None:
        held = Held()
        alive.append(weakref.ref(held))
        if later:
            await asyncio.Event().wait()
        raise asyncio.CancelledError

    alive: list[weakref.ref[Held]] = []
    gc.disable()
    try:
        for later in (True, False):
            task = asyncio.ensure_future(begun(work(later)))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            del task
            await asyncio.sleep(0)
        assert [found() for found in alive] == [None, None]
    finally:
        gc.enable()
