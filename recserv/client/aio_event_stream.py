"""Many events over one StreamEvents call after another, for the asyncio client.

send -> Outbox -> writer task -> server -> reader task -> Outbox -> futures

A third task looks at the clock: the writer cannot, while the server takes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from recserv.client import wire
from recserv.client.again import Backoff
from recserv.client.failures import CallFailed, TooLate, failure_of_call
from recserv.client.options import StreamOptions
from recserv.client.outbox import Entry, Outbox
from recserv.client.wire import Ingested
from recserv.types import Event


class AsyncEventStream:
    """An async context manager. `send` takes an event and gives a future of its acknowledgement, which comes exactly
    once, however often the stream had to be opened again; leaving the block waits for all of them. Events are sent in
    the order of `send`.
    """

    def __init__(self, rpc: Any, options: StreamOptions, clock: Callable[[], float] = time.monotonic):
        self._rpc, self._options, self._clock = rpc, options, clock
        self._outbox = Outbox(options.events_max, options.group_max)
        self._changed = asyncio.Event()
        self._closing = False
        self._progress_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AsyncEventStream:
        self._task = asyncio.create_task(self._run(), name="recserv-events")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
            return
        self._closing = True
        self._outbox.abandon(CallFailed("CANCELLED", "the event stream was left"))
        self._notify()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def send(self, event: Event) -> asyncio.Future[Ingested]:
        """Waits while the outbox is full. The future raises CallFailed: what the server has against this event, or,
        after `give_up_s`, what was wrong last. Raises ValueError or TypeError for one that cannot be encoded.
        """
        message = wire.event_message(event)
        while self._outbox.full and not self._closing:
            await self._wait()
        if self._closing:
            raise CallFailed("CANCELLED", "the event stream is closed")
        promise: asyncio.Future[Ingested] = asyncio.get_running_loop().create_future()
        self._outbox.add(Entry(message, promise, self._clock() + self._options.give_up_s))
        self._notify()
        return promise

    async def flush(self) -> None:
        """Returns once every event that was sent is acknowledged or given up."""
        while len(self._outbox):
            await self._wait()

    async def close(self) -> None:
        """Waits as `flush` does. Idempotent."""
        self._closing = True
        self._notify()
        if self._task is not None:
            await self._task

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _wait(self, seconds: float | None = None) -> None:
        """Until something changes, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _run(self) -> None:
        backoff = Backoff(self._options.backoff_s, self._options.backoff_s_max)
        try:
            while True:
                failure = await self._one_stream(backoff)
                self._outbox.broken(failure, self._clock())
                self._notify()
                # Nothing to send, nothing to connect for.
                while not len(self._outbox) and not self._closing:
                    await self._wait()
                if self._closing and not len(self._outbox):
                    return
                await asyncio.sleep(backoff.next_s(failure.retry_after_s))
        except Exception as error:
            self._closing = True
            self._outbox.abandon(error)
            self._notify()
            raise

    async def _one_stream(self, backoff: Backoff) -> CallFailed:
        """Sends and reads until the stream ends, and says what ended it."""
        call = self._rpc()
        failure = CallFailed("UNAVAILABLE", "the server ended the stream")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(call))
                tasks.create_task(self._read(call, backoff))
                tasks.create_task(self._watch())
        except* CallFailed as failures:
            failure = next(one for one in failures.exceptions if isinstance(one, CallFailed))
        finally:
            call.cancel()
        return failure

    async def _read(self, call: Any, backoff: Backoff) -> None:
        """Raises CallFailed at the end of the stream, whatever it was."""
        try:
            while (response := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                self._progress_s = self._clock()
                if self._outbox.answered(wire.ingest_results(response), self._progress_s):
                    backoff.reset()
                self._notify()
        except grpc.RpcError as error:
            raise failure_of_call(error) from error
        except ValueError as error:
            raise CallFailed("INTERNAL", str(error)) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise CallFailed("CANCELLED", "the channel was closed") from None
        raise CallFailed("UNAVAILABLE", "the server ended the stream")

    async def _write(self, call: Any) -> None:
        # What ends a write ends the reader too, and there it has a status.
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            while not (self._closing and not len(self._outbox)):
                messages = self._outbox.next_group(self._clock())
                if messages:
                    if self._outbox.in_flight == 1:
                        self._progress_s = self._clock()
                        # From now on the server is waited for.
                        self._notify()
                    await call.write(wire.stream_request(messages))
                    continue
                await self._wait(self._outbox.wait_s(self._clock()))
            await call.done_writing()

    async def _watch(self) -> None:
        """Raises TooLate once the server has answered nothing for too long."""
        while not (self._closing and not len(self._outbox)):
            left_s = None
            if self._outbox.in_flight:
                left_s = self._progress_s + self._options.ack_timeout_s - self._clock()
                if left_s <= 0:
                    raise TooLate("DEADLINE_EXCEEDED", f"no answer within {self._options.ack_timeout_s:g} s")
            await self._wait(left_s)
