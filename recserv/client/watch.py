"""The recommendations of a session, each time they change, over one WatchRecommendations call after another.

    call -> answer        -> told, unless the caller has it already
         -> what passes   -> a pause that grows, at least as long as the server asked for -> the next call,
                             from the resume token of the last answer
         -> anything else -> CallFailed

`Resumption` is what both clients share: no gRPC, no clock, no threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import grpc
import msgspec

from recserv import v1 as pb
from recserv.client import wire
from recserv.client.again import Backoff
from recserv.client.failures import CallFailed, failure_of_call
from recserv.client.outbox import RETRIED_STREAMS
from recserv.types import Recommendation, RecommendQuery

LASTED_S = 60.0
"""A stream that was open so long went well, also if nothing changed in that time; connecting never takes so long."""
_OWN_FAULTS = frozenset({"INTERNAL", "UNKNOWN"})
"""Of a broken connection, or of the server: then it gives a reason, and the next call would meet it as well."""


class Resumption:
    """Where a watch stands: which answer the caller has, and how often it has failed since all was well."""

    def __init__(self, query: RecommendQuery, resume_token: str, backoff: Backoff, give_up_s: float | None = None):
        self._query, self._backoff, self._give_up_s = query, backoff, give_up_s
        self.resume_token = resume_token
        self.metadata = wire.call_metadata(query)
        self._began_s = 0.0
        self._failing_since_s: float | None = None

    def begin(self, now_s: float) -> pb.WatchRecommendationsRequest:
        """What to ask the next call for."""
        self._began_s = now_s
        return wire.watch_recommendations_request(self._query, self.resume_token)

    def news(self, message: pb.WatchRecommendationsResponse) -> Recommendation | None:
        """What the caller is told; None for an answer that it has."""
        self._went_well()
        if message.resume_token and message.resume_token == self.resume_token:
            return None
        self.resume_token = message.resume_token
        # It was for the first answer. In an hour no server might know what it stands for.
        self._query = msgspec.structs.replace(self._query, consistency_token="")
        return wire.recommendation(message.response)

    def pause_s(self, failure: CallFailed, now_s: float) -> float:
        """How long to wait before the next call. Raises the failure where another call would not help, and where none
        helped for `give_up_s`.
        """
        if not _passes(failure):
            raise failure
        if now_s - self._began_s >= LASTED_S:
            self._went_well()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        pause_s = self._backoff.next_s(failure.retry_after_s)
        if self._give_up_s is not None and now_s + pause_s - self._failing_since_s > self._give_up_s:
            raise failure
        return pause_s

    def _went_well(self) -> None:
        self._backoff.reset()
        self._failing_since_s = None


def _passes(failure: CallFailed) -> bool:
    if failure.code == "RESOURCE_EXHAUSTED":
        # Without it is a message too large, which stays too large.
        return failure.retry_after_s is not None
    if failure.code in _OWN_FAULTS:
        return not failure.server_reason
    return failure.code in RETRIED_STREAMS


def ended() -> CallFailed:
    """A watch has no end of its own: whoever ended the stream, it was not for good."""
    return CallFailed("UNAVAILABLE", "the server ended the stream")


def client_closed() -> CallFailed:
    return CallFailed("CANCELLED", "the client was closed")


class RecommendationWatch(Iterator[Recommendation]):
    """An iterator, and a context manager that closes it. `resume_token` stands for the last answer that it gave. For
    one thread at a time, but for `close`.
    """

    def __init__(self, rpc: Any, resumption: Resumption, clock: Callable[[], float] = time.monotonic):
        self._rpc, self._resumption, self._clock = rpc, resumption, clock
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._call: Any = None

    @property
    def resume_token(self) -> str:
        return self._resumption.resume_token

    def __enter__(self) -> RecommendationWatch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        # Whoever breaks out of its loop is done with it.
        self.close()

    def close(self) -> None:
        """Ends the iteration, also that of another thread which waits in it. Idempotent."""
        self._closed.set()
        self._drop()

    def __next__(self) -> Recommendation:
        """Waits for the next answer. Raises CallFailed, and is at its end after that."""
        while (call := self._open()) is not None:
            try:
                for message in call:
                    if (answer := self._resumption.news(message)) is not None:
                        return answer
                failure = ended()
            except grpc.RpcError as error:
                failure = failure_of_call(error)
            self._drop()
            if not self._closed.is_set():
                self._closed.wait(self._pause_s(failure))
        raise StopIteration

    def _open(self) -> Any:
        """The call that is open, or a new one; None once the watch is closed."""
        with self._lock:
            if self._call is None and not self._closed.is_set():
                request = self._resumption.begin(self._clock())
                try:
                    self._call = self._rpc(request, metadata=self._resumption.metadata)
                except ValueError as error:
                    self._closed.set()
                    raise client_closed() from error
            return None if self._closed.is_set() else self._call

    def _drop(self) -> None:
        with self._lock:
            call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _pause_s(self, failure: CallFailed) -> float:
        try:
            return self._resumption.pause_s(failure, self._clock())
        except CallFailed:
            self._closed.set()
            raise
