"""The events of a stream that are not acknowledged yet: what to send next, and what an answer or its absence means.

    add -> waiting -> next_group -> sent -> answered      -> settled, once
                         ^            |  -> UNAVAILABLE   -> waiting again, after the server's delay
                         +------------+  -> stream broken -> waiting again, in the same order

Pure: no gRPC, no clock, no threads. The two clients' streams drive it. An event that was sent and not answered may have
been stored; it is sent again with the same id, and the server counts it once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from recserv import v1 as pb
from recserv.client.failures import CallFailed
from recserv.client.options import MESSAGE_BYTES_MAX
from recserv.client.wire import Ingested
from recserv.types import BATCH_EVENTS_MAX

RETRIED_RESULTS = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL"})
"""Of one event: what another try may change."""
RETRIED_STREAMS = frozenset(
    {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL", "CANCELLED", "ABORTED", "UNKNOWN"}
)
"""Of a stream: what a broken connection or a server that ends may look like."""
GROUPS_IN_FLIGHT_MAX = 8
"""As many as the server works on at once."""
GROUP_BYTES_MAX = MESSAGE_BYTES_MAX // 4
"""A group ends before it, so that many large events are no message that the server refuses."""
EVENT_BYTES_MAX = MESSAGE_BYTES_MAX - 16
"""Its place in the message takes a few more. What keeps the contract's limits is far smaller."""


class Promise(Protocol):
    """asyncio.Future and concurrent.futures.Future alike."""

    def done(self) -> bool: ...

    def set_result(self, result: Ingested, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...


class Entry:
    """An event as it is sent, the promise of its acknowledgement, and when (monotonic seconds) its sender gives up."""

    __slots__ = ("expires_s", "message", "promise", "size_bytes")

    def __init__(self, message: pb.Event, promise: Promise, expires_s: float):
        self.message, self.promise, self.expires_s = message, promise, expires_s
        self.size_bytes = message.ByteSize()

    def acknowledge(self, result: Ingested) -> None:
        # The one who waited may have cancelled.
        if not self.promise.done():
            self.promise.set_result(result)

    def fail(self, failure: BaseException) -> None:
        if not self.promise.done():
            self.promise.set_exception(failure)


class Outbox:
    """At most `events_max` events; the caller looks at `full` before it adds."""

    def __init__(self, events_max: int, group_max: int = BATCH_EVENTS_MAX):
        self._events_max = events_max
        self._group_max = min(group_max, BATCH_EVENTS_MAX)
        self._waiting: deque[Entry] = deque()
        self._sent: deque[list[Entry]] = deque()
        self._not_before_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting) + sum(len(group) for group in self._sent)

    @property
    def full(self) -> bool:
        return len(self) >= self._events_max

    @property
    def in_flight(self) -> int:
        """Groups that wait for their answer."""
        return len(self._sent)

    def add(self, entry: Entry) -> None:
        """Raises ValueError for an event that fits no message: no stream could ever take it past the server."""
        if entry.size_bytes > EVENT_BYTES_MAX:
            raise ValueError(f"the event has {entry.size_bytes} bytes; a message has at most {MESSAGE_BYTES_MAX}")
        self._waiting.append(entry)

    def wait_s(self, now_s: float) -> float | None:
        """How long until `next_group` has something: 0 at once, None not before something else happens."""
        if not self._waiting or len(self._sent) >= GROUPS_IN_FLIGHT_MAX:
            return None
        return max(0.0, self._not_before_s - now_s)

    def next_group(self, now_s: float) -> list[pb.Event]:
        """What to send now, oldest first; it counts as sent. Empty if there is nothing."""
        if self.wait_s(now_s) != 0.0:
            return []
        group, left_bytes = [self._waiting.popleft()], GROUP_BYTES_MAX
        while self._waiting and len(group) < self._group_max:
            left_bytes -= group[-1].size_bytes
            if self._waiting[0].size_bytes > left_bytes:
                break
            group.append(self._waiting.popleft())
        self._sent.append(group)
        return [entry.message for entry in group]

    def answered(self, results: Sequence[Ingested | CallFailed], now_s: float) -> int:
        """The answer to the oldest group. Returns how many of its events are settled. Raises ValueError if it is not
        an answer to that group.
        """
        if not self._sent or len(results) != len(self._sent[0]):
            raise ValueError("an answer that fits no group")
        again: list[Entry] = []
        for entry, result in zip(group := self._sent.popleft(), results, strict=True):
            if isinstance(result, Ingested):
                entry.acknowledge(result)
            elif result.code in RETRIED_RESULTS and now_s < entry.expires_s:
                again.append(entry)
                self._not_before_s = max(self._not_before_s, now_s + (result.retry_after_s or 0.0))
            else:
                entry.fail(result)
        self._waiting.extendleft(reversed(again))
        return len(group) - len(again)

    def broken(self, failure: CallFailed, now_s: float) -> None:
        """The stream ended: what it left unanswered will be sent again, but for what nobody waits for any longer. A
        failure that another stream would meet as well is everybody's.
        """
        hopeless = failure.code not in RETRIED_STREAMS
        left = [entry for group in self._sent for entry in group] + list(self._waiting)
        self._sent.clear()
        self._waiting.clear()
        for entry in left:
            if hopeless or now_s >= entry.expires_s:
                entry.fail(failure)
            else:
                self._waiting.append(entry)

    def abandon(self, failure: BaseException) -> None:
        """Nobody will send any of them."""
        for entry in [entry for group in self._sent for entry in group] + list(self._waiting):
            entry.fail(failure)
        self._sent.clear()
        self._waiting.clear()
