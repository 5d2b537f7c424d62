"""The recommendations of a session, each time they change, for the asyncio client; see watch.py."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from recserv.client.failures import CallFailed, failure_of_call
from recserv.client.watch import Resumption, client_closed, ended
from recserv.types import Recommendation


class AsyncRecommendationWatch(AsyncIterator[Recommendation]):
    """An async iterator, and an async context manager that closes it. `resume_token` stands for the last answer that it
    gave. For one task at a time, but for `close`. No task runs for it: between two answers nobody reads.
    """

    def __init__(self, rpc: Any, resumption: Resumption, clock: Callable[[], float] = time.monotonic):
        self._rpc, self._resumption, self._clock = rpc, resumption, clock
        self._closed = asyncio.Event()
        self._call: Any = None

    @property
    def resume_token(self) -> str:
        return self._resumption.resume_token

    async def __aenter__(self) -> AsyncRecommendationWatch:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        # Whoever breaks out of its loop is done with it.
        self.interrupt()

    async def close(self) -> None:
        """Ends the iteration, also that of another task which waits in it. Idempotent."""
        self._closed.set()
        self.interrupt()

    async def __anext__(self) -> Recommendation:
        """Waits for the next answer. Raises CallFailed, and is at its end after that. Who cancels it or times it out
        may call it again: it goes on where it was.
        """
        while not self._closed.is_set():
            failure = await self._read()
            if isinstance(failure, Recommendation):
                return failure
            self.interrupt()
            if not self._closed.is_set():
                await self._pause(failure)
        raise StopAsyncIteration

    async def _read(self) -> Recommendation | CallFailed:
        """The next answer, or what ended the stream before it."""
        try:
            call = self._open()
            while (message := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                if (answer := self._resumption.news(message)) is not None:
                    return answer
        except grpc.RpcError as error:
            return failure_of_call(error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                # gRPC has ended the call with it.
                self.interrupt()
                raise
            return client_closed()
        return ended()

    def _open(self) -> Any:
        """The call that is open, or a new one."""
        if self._call is None:
            request = self._resumption.begin(self._clock())
            try:
                self._call = self._rpc(request, metadata=self._resumption.metadata)
            except grpc.aio.UsageError as error:
                self._closed.set()
                raise client_closed() from error
        return self._call

    def interrupt(self) -> None:
        """Ends the call that is open; the next one goes on from there."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    async def _pause(self, failure: CallFailed) -> None:
        try:
            pause_s = self._resumption.pause_s(failure, self._clock())
        except CallFailed:
            self._closed.set()
            raise
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._closed.wait()
