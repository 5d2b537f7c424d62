"""A server ends in bounded time and says what it gave up for that."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest

from recserv import v1 as pb
from recserv.app import grace as grace_module
from recserv.app.grace import Grace
from recserv.app.model import load_model
from recserv.app.serving import running
from recserv.config import Settings
from recserv.server.assembly import SERVICE
from recserv.stores.sqlite_log import SqliteLog
from tests.patience import HANG_GUARD_S, eventually_async
from tests.server.harness import view


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends at all ends in time all the same: each part is given a moment."""
    monkeypatch.setattr(grace_module, "CLOSING_S", 0.0)


async def never() -> None:
    await asyncio.Event().wait()


def given_up(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [record.__dict__["fields"] for record in caplog.records if record.message.startswith("given up")]


async def test_a_part_that_does_not_end_is_logged_by_name_and_the_next_is_closed(
    no_time: None, caplog: pytest.LogCaptureFixture
) -> None:
    closed = []

    async def close() -> None:
        closed.append("store")

    @asynccontextmanager
    async def part() -> AsyncIterator[int]:
        yield 7
        await never()

    grace = Grace(0.0)
    async with asyncio.timeout(HANG_GUARD_S), AsyncExitStack() as stack:
        stack.push_async_callback(grace.close, "store", close)
        assert await grace.enter(stack, "board", part()) == 7
        stack.push_async_callback(grace.close, "writes", never, lambda: {"calls": 3})
    assert given_up(caplog) == [{"what": "writes", "calls": 3}, {"what": "board"}]
    assert closed == ["store"]


async def test_an_error_while_closing_is_not_swallowed() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Grace(HANG_GUARD_S).close("store", fail)


async def test_a_disk_that_stalls_does_not_hold_the_process(
    no_time: None,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk, stalled = threading.Event(), threading.Event()
    write = SqliteLog.write

    def stall(*arguments: object) -> object:
        stalled.set()
        disk.wait()
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteLog, "write", stall)
    settings = Settings(
        model=str(tiny_model),
        listen="127.0.0.1:0",
        metrics_listen="off",
        state=f"embedded:{tmp_path / 'state.db'}",
        drain_ms=0,
    )
    try:
        async with asyncio.timeout(HANG_GUARD_S):
            async with running(settings, load_model(settings)) as app:
                channel = grpc.insecure_channel(app.address)
                body = pb.IngestEventRequest(event=view("e-1")).SerializeToString()
                sent = channel.unary_unary(f"/{SERVICE}/IngestEvent").future(body, timeout=HANG_GUARD_S)
                await eventually_async(stalled.is_set)
        sent.cancel()
        channel.close()
    finally:
        disk.set()
    assert {"what": "state store", "events": 1} in given_up(caplog)
