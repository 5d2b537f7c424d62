"""What gRPC lends its core for a batch of operations is given back, whatever becomes of the batch and of who waits."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from grpc._cython import cygrpc

from recserv.errors import InvalidInput, Violation
from recserv.metrics.memory import malloc_counter
from recserv.server.assembly import SERVICE
from recserv.server.core_batches import free_ended_batches, freeing
from recserv.types import Recommendation
from tests.patience import HANG_GUARD_S, eventually
from tests.server.harness import Service

CALLS = 300
STATUS_BYTES = 2_000
"""Goes out as trailing metadata, 4/3 of it."""


class Core:
    """Stands for gRPC's `execute_batch` and for the core behind it."""

    def __init__(self) -> None:
        self.future: Any = None
        self.freed = False
        self.error: Exception | None = None

    async def execute(self, call: Any, operations: Any, loop: asyncio.AbstractEventLoop) -> None:
        if self.error is not None:
            raise self.error
        self.future = loop.create_future()
        await self.future
        self.freed = True

    def ends(self, error: Exception | None = None) -> None:
        assert not self.future.cancelled()
        if error is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(error)


async def begun(core: Core) -> asyncio.Task[None]:
    task = asyncio.ensure_future(freeing(core.execute)(None, (), asyncio.get_running_loop()))
    await asyncio.sleep(0)
    assert core.future is not None
    return task


async def test_who_waits_goes_on_when_the_batch_has_ended() -> None:
    core = Core()
    task = await begun(core)
    await asyncio.sleep(0)
    assert not task.done()
    core.ends()
    assert core.freed
    await task


async def test_a_batch_that_fails_is_freed_and_who_waits_hears_of_it() -> None:
    core = Core()
    task = await begun(core)
    core.ends(KeyError("gone"))
    assert core.freed
    with pytest.raises(KeyError, match="gone"):
        await task


@pytest.mark.parametrize("error", [None, KeyError("gone")])
async def test_a_batch_that_nobody_waits_for_any_more_is_freed_when_it_ends(error: Exception | None) -> None:
    core = Core()
    task = await begun(core)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not core.freed
    core.ends(error)
    assert core.freed


async def test_a_batch_that_the_core_does_not_take_fails_at_once() -> None:
    core = Core()
    core.error = KeyError("not taken")
    with pytest.raises(KeyError, match="not taken"):
        await freeing(core.execute)(None, (), asyncio.get_running_loop())


async def test_what_goes_wrong_while_it_is_freed_is_told_to_who_waits() -> None:
    class Broken(Core):
        async def execute(self, call: Any, operations: Any, loop: asyncio.AbstractEventLoop) -> None:
            await super().execute(call, operations, loop)
            raise KeyError("broken")

    core = Broken()
    task = await begun(core)
    core.ends()
    with pytest.raises(KeyError, match="broken"):
        await task


def test_it_is_put_around_grpcs_own_once() -> None:
    assert free_ended_batches()
    around = cygrpc.execute_batch
    assert free_ended_batches()
    assert cygrpc.execute_batch is around


def test_statuses_whose_client_has_gone_leave_memory(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client hangs up while the event loop is busy with its call: gRPC's core is given a status for nobody."""
    in_use = malloc_counter()
    assert in_use is not None
    entered, hung_up = threading.Semaphore(0), threading.Semaphore(0)

    async def refuse(*_: object, **__: object) -> Recommendation:
        entered.release()
        assert hung_up.acquire(timeout=HANG_GUARD_S)
        # The core hears of it beside this thread; a status that it is given before is sent, and leaves nothing behind.
        time.sleep(0.004)
        raise InvalidInput([Violation("field", "x" * STATUS_BYTES, "TOO_LONG")])

    def gone() -> None:
        call = service.channel.unary_unary(f"/{SERVICE}/Recommend").future(b"")
        assert entered.acquire(timeout=HANG_GUARD_S)
        call.cancel()
        hung_up.release()
        eventually(lambda: service.server.admission.recommends.in_use == 0)

    monkeypatch.setattr(service.recommender, "recommend", refuse)
    gone()
    before = in_use()
    for _ in range(CALLS):
        gone()
    eventually(lambda: in_use() - before < CALLS * STATUS_BYTES / 2, "memory is given back")
