"""Overload control: what a call gets when more calls come than the server can answer.

    at the door     gRPC hands over a call; if too many are inside, it is rejected before its message is read
    after parsing   verdict by the calls inside and the message's priority: a full answer, popular items, or rejected;
                    urgent calls get a full answer beyond the limit, too, while few of them wait
    in the queues   one turn of the loop starts hardly more than one full answer, or a few brief ones
    in each window  how long full answers within the limit waited for that -> the limit

All handlers run on one thread, so a new call is looked at when the current turn of the loop ends. Turns are therefore
kept short: a rejection is sent a few turns later, however many calls wait for an answer.

Brief answers do not queue behind full ones. They cost a fraction; if they waited as long they would count as calls
inside all the while, and calls that popular items could have served would be rejected. While both kinds wait, they
alternate turns (a turn with both was half as long again, and so was the wait for a rejection).

Calls inside are recommendations in handlers, including the queue, and looks of watches. Calls that wait in gRPC itself
wait for a slot (slots.py), and there are enough slots for what arrives within a turn.

Events and health checks are neither counted nor rejected here: they have their own queues in gRPC (registered methods)
and their own limiters, so that a flood of recommendations does not delay an acknowledgement.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from random import random
from typing import Any, TypeAlias

import grpc

from recserv.errors import Overloaded
from recserv.metrics import RequestDone
from recserv.resilience.deadline import MonotonicClock
from recserv.resilience.limiter import REJECT_BEYOND, GradientLimit, LimitSettings, Verdict, verdict
from recserv.resilience.metrics import OverloadMetrics
from recserv.server.admission import Admission
from recserv.server.call import WORKER_KEY
from recserv.server.status import rejection
from recserv.types import PRIORITY_METADATA, Priority

TURN_S = 0.0005
"""For how long one turn of the loop starts full answers."""
BRIEF_IN_TURN = 4
"""Brief answers per turn. With more, turns grow long; with fewer, these become the bottleneck at twice the load."""
WINDOW_S = 0.01
_REJECT_LOW_BEYOND = REJECT_BEYOND[Priority.LOW]
_PUSHBACK_MS = (50, 450)
_REJECTIONS = 16
_Queue: TypeAlias = "deque[asyncio.Future[None]]"


class OverloadControl:
    """The overload control of one server. On its event loop."""

    def __init__(
        self,
        metrics: OverloadMetrics,
        settings: LimitSettings | None = None,
        clock: MonotonicClock = time.monotonic,
    ):
        self._metrics, self._clock = metrics, clock
        self._limit = GradientLimit(settings)
        self.handling = 0
        """Calls in handlers, of the kind that is controlled here."""
        self._full: _Queue = deque()
        self._brief: _Queue = deque()
        self._turning = False
        self._turn_began_s = clock()
        self._arrived = 0
        """Calls let in at the door in this turn."""
        self._full_begun = self._brief_begun = 0
        """Started in this turn; one of the two is 0."""
        self._window = _Window(self._turn_began_s)
        metrics.watch(limit=lambda: self.limit, waiting=lambda: len(self._full) + len(self._brief))

    @property
    def limit(self) -> float:
        return self._limit.limit

    def arrive(self, metadata: Sequence[tuple[str, str | bytes]]) -> bool:
        """Whether a call that gRPC hands over may come in at all."""
        self._turn()
        self._arrived += 1
        limits = (self.handling + self._arrived) / self._limit.limit
        if limits <= _REJECT_LOW_BEYOND or limits <= REJECT_BEYOND[_priority(metadata)]:
            return True
        self._metrics.rejected()
        return False

    def enter(self) -> None:
        """A call has reached its handler."""
        self.handling += 1
        self._window.inside = max(self._window.inside, self.handling)

    def leave(self) -> None:
        """Exactly once for each `enter`."""
        self.handling -= 1
        self._window.left += 1

    def judge(self, priority: int) -> Verdict:
        """What a call of this priority gets now. Counts verdicts other than a full answer."""
        found = verdict(self.handling, self._limit.limit, priority, len(self._full))
        if found is Verdict.BRIEF:
            self._metrics.brief()
        elif found is Verdict.REJECT:
            self._metrics.rejected()
        return found

    def has_room(self, priority: int) -> bool:
        """Whether one more call of this priority would get a full answer now. Counts nothing, as no call is judged."""
        found = verdict(self.handling + 1, self._limit.limit, priority, len(self._full))
        return found in (Verdict.FULL, Verdict.URGENT)

    async def wait(self, found: Verdict) -> None:
        """Waits until an answer of that kind may be started."""
        self._turn()
        if found is not Verdict.BRIEF:
            began_s = waited_until_s = self._clock()
            if self._full or self._brief_begun or began_s - self._turn_began_s >= TURN_S:
                await self._place(self._full)
                waited_until_s = self._clock()
            else:
                self._full_begun += 1
            if found is Verdict.FULL:
                self._window.begun += 1
                self._window.waited_s += waited_until_s - began_s
        elif self._brief or self._full_begun or self._brief_begun >= BRIEF_IN_TURN:
            await self._place(self._brief)
        else:
            self._brief_begun += 1

    def _place(self, queue: _Queue) -> asyncio.Future[None]:
        place = asyncio.get_running_loop().create_future()
        queue.append(place)
        return place

    def _turn(self) -> None:
        """To be called when something happens in this turn of the loop: arranges to notice the next turn."""
        if not self._turning:
            self._turning, self._turn_began_s = True, self._clock()
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turning = False
        self._arrived = 0
        now_s = self._clock()
        if now_s - self._window.began_s >= WINDOW_S:
            self._window.judge(self._limit, now_s)
            self._window = _Window(now_s, self.handling)
        if self._full or self._brief:
            brief = bool(self._brief and (self._full_begun or not self._full))
            self._full_begun, self._brief_begun = (
                (0, _let_go(self._brief, BRIEF_IN_TURN)) if brief else (_let_go(self._full, 1), 0)
            )
            self._turn()
        else:
            self._full_begun = self._brief_begun = 0


def _let_go(queue: _Queue, most: int) -> int:
    """Returns how many were let go."""
    gone = 0
    while queue and gone < most:
        place = queue.popleft()
        # The client may have left meanwhile.
        if not place.done():
            place.set_result(None)
            gone += 1
    return gone


class _Window:
    """What the limit is adjusted by: the peak of calls inside, how many left, how many full answers within the limit
    were `begun`, and the sum of their waits.
    """

    __slots__ = ("began_s", "begun", "inside", "left", "waited_s")

    def __init__(self, began_s: float, inside: int = 0):
        self.began_s, self.inside = began_s, inside
        self.begun = self.left = 0
        self.waited_s = 0.0

    def judge(self, limit: GradientLimit, now_s: float) -> None:
        if self.left and self.begun:
            # While calls wait the thread is never idle, so this is the thread's time for each of them.
            work_s = (now_s - self.began_s) / self.left
            limit.update(self.inside, work_s, self.waited_s / self.begun)


def _priority(metadata: Sequence[tuple[str, str | bytes]]) -> Priority:
    """The priority, as far as the metadata tell."""
    for priority, named in PRIORITY_METADATA.items():
        if named in metadata:
            return priority
    return Priority.NORMAL


class Doorman(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Rejects calls when gRPC asks for their handler: before the message is read and anything is built."""

    def __init__(
        self,
        methods: dict[str, Any],
        control: OverloadControl,
        admission: Admission,
        done: dict[str, RequestDone],
        worker: str = "",
    ):
        """methods: handlers by full method name; done: counts each end; worker: name sent with rejections."""
        self._methods, self._control, self._admission = methods, control, admission
        self._rejecting = {name: rejecting(done[name], worker) for name in methods}

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        handler = self._methods.get(details.method)
        # During a drain every call is told so, and counted.
        if handler is None or self._admission.closed or self._control.arrive(details.invocation_metadata):
            return handler
        return self._rejecting[details.method]


def rejecting(done: RequestDone, worker: str = "") -> Any:
    """A handler that answers RESOURCE_EXHAUSTED with a retry delay, from statuses built in advance.

    Declared as server-streaming and sends no answers: gRPC then neither waits for a message nor sends anything but the
    status. Setting the code costs a tenth less than aborting.
    """
    low, high = _PUSHBACK_MS
    named = ((WORKER_KEY, worker),) if worker else ()
    ready = [
        rejection(Overloaded("the server is busy", low + step * (high - low) // _REJECTIONS))
        for step in range(_REJECTIONS)
    ]

    async def reject(_: object, context: Any) -> None:
        code, text, trailing = ready[int(random() * _REJECTIONS)]
        context.set_code(code)
        context.set_details(text)
        context.set_trailing_metadata((*trailing, *named))
        done(code.name, 0.0)

    return grpc.stream_stream_rpc_method_handler(reject)
