"""The two halves of StreamEvents, on an event loop without gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from recserv import v1 as pb
from recserv.metrics import Metrics
from recserv.server.admission import Admission
from recserv.server.event_stream import event_stream
from recserv.server.handlers import HandlerFactory
from tests.patience import HANG_GUARD_S


class SilentClient:
    """The context of a stream whose client sends nothing and goes on listening."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[tuple[grpc.StatusCode, str]] = asyncio.get_running_loop().create_future()

    def time_remaining(self) -> None:
        return None

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def read(self) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    async def abort(self, code: grpc.StatusCode, details: str, trailing: object) -> None:
        self.ended.set_result((code, details))


class NoVisits:
    def enter(self) -> None: ...

    def leave(self) -> None: ...


async def no_group(request: pb.StreamEventsRequest, call: Any) -> pb.StreamEventsResponse:
    raise AssertionError


@pytest.mark.parametrize("steps", range(4))
async def test_a_stream_ends_however_early_the_drain_begins(steps: int) -> None:
    admission = Admission(1, 1)
    handler = event_stream(HandlerFactory(admission, Metrics(), 1_000, visits=NoVisits()), no_group)
    client = SilentClient()
    stream = asyncio.create_task(handler.stream_stream(None, client))  # type: ignore[misc]
    # After one step the reader is there and has not run yet.
    for _ in range(steps):
        await asyncio.sleep(0)
    admission.close()
    async with asyncio.timeout(HANG_GUARD_S):
        code, text = await client.ended
        await admission.drained()
        await stream
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "shutting down" in text
