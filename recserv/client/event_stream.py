"""Many events over one StreamEvents call after another, for the synchronous client.

    send -> Outbox -> request iterator (gRPC's thread) -> server -> answers (our thread) -> Outbox -> futures

One lock guards the outbox; whoever changes it wakes the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import grpc

from recserv.client import wire
from recserv.client.again import Backoff
from recserv.client.failures import CallFailed, failure_of_call
from recserv.client.options import StreamOptions
from recserv.client.outbox import Entry, Outbox
from recserv.client.wire import Ingested
from recserv.types import Event

_LOOK_S = 0.5
"""How often a waiting thread looks at the clock."""


class EventStream:
    """A context manager. `send` takes an event and gives a future of its acknowledgement, which comes exactly once,
    however often the stream had to be opened again; leaving the block waits for all of them. Events are sent in the
    order of `send`. Safe to share between threads.
    """

    def __init__(self, rpc: Any, options: StreamOptions, clock: Callable[[], float] = time.monotonic):
        self._rpc, self._options, self._clock = rpc, options, clock
        self._outbox = Outbox(options.events_max, options.group_max)
        self._changed = threading.Condition()
        self._closing = False
        self._call: Any = None
        self._progress_s = 0.0
        self._thread = threading.Thread(target=self._run, name="recserv-events", daemon=True)

    def __enter__(self) -> EventStream:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            self._abandon(CallFailed("CANCELLED", "the event stream was left"))
        self.close()

    def send(self, event: Event) -> Future[Ingested]:
        """Waits while the outbox is full. The future raises CallFailed: what the server has against this event, or,
        after `give_up_s`, what was wrong last. Raises ValueError or TypeError for one that cannot be encoded.
        """
        message = wire.event_message(event)
        promise: Future[Ingested] = Future()
        with self._changed:
            while self._outbox.full and not self._closing:
                self._changed.wait()
            if self._closing:
                raise CallFailed("CANCELLED", "the event stream is closed")
            self._outbox.add(Entry(message, promise, self._clock() + self._options.give_up_s))
            self._changed.notify_all()
        return promise

    def flush(self) -> None:
        """Returns once every event that was sent is acknowledged or given up."""
        with self._changed:
            while len(self._outbox):
                self._changed.wait()

    def close(self) -> None:
        """Waits as `flush` does. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _abandon(self, failure: BaseException) -> None:
        with self._changed:
            self._closing = True
            self._outbox.abandon(failure)
            self._changed.notify_all()
            if self._call is not None:
                self._call.cancel()

    def _run(self) -> None:
        backoff = Backoff(self._options.backoff_s, self._options.backoff_s_max)
        try:
            while True:
                failure = self._one_stream(backoff)
                with self._changed:
                    self._call = None
                    self._outbox.broken(failure, self._clock())
                    self._changed.notify_all()
                    # Nothing to send, nothing to connect for.
                    while not len(self._outbox) and not self._closing:
                        self._changed.wait()
                    if self._closing and not len(self._outbox):
                        return
                time.sleep(backoff.next_s(failure.retry_after_s))
        except Exception as error:
            self._abandon(error)
            raise

    def _one_stream(self, backoff: Backoff) -> CallFailed:
        """Sends and reads until the stream ends, and says what ended it."""
        over = threading.Event()
        with self._changed:
            self._call = self._rpc(self._groups(over))
        try:
            for response in self._call:
                with self._changed:
                    self._progress_s = self._clock()
                    if self._outbox.answered(wire.ingest_results(response), self._progress_s):
                        backoff.reset()
                    self._changed.notify_all()
        except grpc.RpcError as error:
            return failure_of_call(error)
        except ValueError as error:
            self._call.cancel()
            return CallFailed("INTERNAL", str(error))
        finally:
            over.set()
            with self._changed:
                self._changed.notify_all()
        return CallFailed("UNAVAILABLE", "the server ended the stream")

    def _groups(self, over: threading.Event) -> Iterator[Any]:
        """What gRPC sends; ends when the stream is over, or when there will be nothing more."""
        while True:
            with self._changed:
                # Asked under the lock: a group that a call takes after its end would wait for the next one's answers.
                if over.is_set():
                    return
                now_s = self._clock()
                messages = self._outbox.next_group(now_s)
                if messages and self._outbox.in_flight == 1:
                    self._progress_s = now_s
                if not messages:
                    if self._closing and not len(self._outbox):
                        return
                    if self._outbox.in_flight and now_s - self._progress_s > self._options.ack_timeout_s:
                        self._call.cancel()
                        return
                    wait_s = self._outbox.wait_s(now_s)
                    self._changed.wait(_LOOK_S if wait_s is None else min(_LOOK_S, wait_s))
            if messages:
                yield wire.stream_request(messages)
