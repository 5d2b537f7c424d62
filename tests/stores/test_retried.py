"""The store that is opened when it can be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from recserv.errors import StoreUnavailable, UsageError
from recserv.stores.base import AppendEvent, AppendResult, AppendStatus
from recserv.stores.retried import RetriedStore
from recserv.types import Event, ShopperKey, ShopperState
from tests.patience import eventually_async


class Flaky:
    """A store that opens at the given attempt."""

    token_key = b"kept with the state"

    def __init__(self, opens: Callable[[], bool]):
        self._opens, self.closed = opens, False

    async def open(self) -> None:
        if not self._opens():
            raise StoreUnavailable("disk full")

    async def close(self) -> None:
        self.closed = True

    async def append(self, tenant: str, events: Sequence[AppendEvent]) -> list[AppendResult]:
        return [AppendResult(AppendStatus.ACCEPTED, 1)] * len(events)

    async def read(self, tenant: str, keys: Sequence[ShopperKey]) -> list[ShopperState]:
        return [ShopperState(sequence=1)] * len(keys)


EVENT = AppendEvent(Event(event_id="e"), b"", 0, 0)


async def test_a_store_that_cannot_be_opened_is_unavailable_and_tried_again() -> None:
    able = asyncio.Event()
    made: list[Flaky] = []

    def make() -> Flaky:
        made.append(Flaky(able.is_set))
        return made[-1]

    store = RetriedStore(make, retry_s=0.001)
    await store.open()
    [result] = await store.append("t", [EVENT])
    assert (result.status, store.token_key) == (AppendStatus.UNAVAILABLE, b"")
    with pytest.raises(StoreUnavailable):
        await store.read("t", [ShopperKey("s")])
    able.set()

    async def accepted() -> bool:
        return (await store.append("t", [EVENT]))[0].status == AppendStatus.ACCEPTED

    await eventually_async(accepted)
    assert [state.sequence for state in await store.read("t", [ShopperKey("s")])] == [1]
    assert store.token_key == Flaky.token_key
    await store.close()
    assert made[-1].closed


async def test_a_store_that_never_opened_can_be_closed() -> None:
    store = RetriedStore(lambda: Flaky(lambda: False), retry_s=60.0)
    await store.open()
    await store.close()


async def test_a_store_that_can_never_open_ends_the_start_with_a_usage_error() -> None:
    class Hopeless(Flaky):
        async def open(self) -> None:
            raise UsageError("not a database")

    with pytest.raises(UsageError):
        await RetriedStore(lambda: Hopeless(lambda: False)).open()


async def test_a_store_that_raises_what_it_should_not_is_tried_again_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcomes = iter(
        [StoreUnavailable("disk full"), RuntimeError("nobody thought of this"), UsageError("damaged"), None]
    )

    class Surprising(Flaky):
        async def open(self) -> None:
            if (error := next(outcomes)) is not None:
                raise error

    store = RetriedStore(lambda: Surprising(lambda: True), retry_s=0.001)
    await store.open()

    async def accepted() -> bool:
        return (await store.append("t", [EVENT]))[0].status == AppendStatus.ACCEPTED

    await eventually_async(accepted)
    told = [str(record.__dict__["fields"]["problem"]) for record in caplog.records if record.levelname == "ERROR"]
    assert told == ["disk full", "RuntimeError: nobody thought of this", "damaged"]
    await store.close()
