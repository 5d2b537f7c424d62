"""Overload: what a call gets when more of them come than the server can answer.

    at the door     gRPC hands a call over; too many inside: rejected before its message is read
    after parsing   verdict by the calls inside and the message's priority: a full answer, popular items, or rejected;
                    beyond the limit a full one for urgent calls still, while few of them wait
    in the queues   in a turn of the loop hardly more than one full answer is begun, or a few brief ones
    in each window  how long full answers within the limit waited for that -> the limit

Handlers work on one thread, so a call that comes meanwhile is looked at when the turn of the loop ends. Turns are
therefore kept short: whoever is rejected hears of it some turns later, however many wait for an answer.

Brief answers do not wait behind the full ones: they cost a fraction, would wait as long, and be counted inside all the
while, and so others would be rejected whom popular items could have served. Where both wait they get every other turn
(in one turn with a full one they made it half as long again, and so the wait of whoever is rejected).

Calls inside are those in handlers, the queue among them. What waits in gRPC itself waits for a slot (slots.py), of
which there are enough for what comes within a turn.

Events and health are not counted here and never rejected here: they have their own queues in gRPC (registered methods)
and their own limiters, so a flood of recommendations does not delay an acknowledgement.
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
"""Answers are begun for so long in one turn of the loop."""
BRIEF_IN_TURN = 4
"""So many that waited. With more of them turns grow long; with fewer they are what is waited for at twice the load."""
WINDOW_S = 0.01
_REJECT_LOW_BEYOND = REJECT_BEYOND[Priority.LOW]
_PUSHBACK_MS = (50, 450)
_REJECTIONS = 16
_Queue: TypeAlias = "deque[asyncio.Future[None]]"


class OverloadControl:
    """One server's; on its event loop."""

    def __init__(
        self,
        metrics: OverloadMetrics,
        settings: LimitSettings | None = None,
        clock: MonotonicClock = time.monotonic,
    ):
        self._metrics, self._clock = metrics, clock
        self._limit = GradientLimit(settings)
        self.handling = 0
        """Calls in handlers that this control is about."""
        self._full: _Queue = deque()
        self._brief: _Queue = deque()
        self._turning = False
        self._turn_began_s = clock()
        self._arrived = 0
        """At the door in this turn."""
        self._full_begun = self._brief_begun = 0
        """In this turn; one of them is 0."""
        self._window = _Window(self._turn_began_s)
        metrics.watch(limit=lambda: self.limit, waiting=lambda: len(self._full) + len(self._brief))

    @property
    def limit(self) -> float:
        return self._limit.limit

    def arrive(self, metadata: Sequence[tuple[str, str | bytes]]) -> bool:
        """gRPC hands a call over: whether it may come in at all."""
        self._turn()
        self._arrived += 1
        limits = (self.handling + self._arrived) / self._limit.limit
        if limits <= _REJECT_LOW_BEYOND or limits <= REJECT_BEYOND[_priority(metadata)]:
            return True
        self._metrics.rejected()
        return False

    def enter(self) -> None:
        """A call gets to its handler."""
        self.handling += 1
        self._window.inside = max(self._window.inside, self.handling)

    def leave(self) -> None:
        """Once for each `enter`."""
        self.handling -= 1
        self._window.left += 1

    def judge(self, priority: int) -> Verdict:
        """What a call of this priority gets now; counts what is not a full answer."""
        found = verdict(self.handling, self._limit.limit, priority, len(self._full))
        if found is Verdict.BRIEF:
            self._metrics.brief()
        elif found is Verdict.REJECT:
            self._metrics.rejected()
        return found

    def has_room(self, priority: int) -> bool:
        """Whether one more call of this priority would get a full answer now. Counts nothing: it is nobody's call."""
        found = verdict(self.handling + 1, self._limit.limit, priority, len(self._full))
        return found in (Verdict.FULL, Verdict.URGENT)

    async def wait(self, found: Verdict) -> None:
        """Until an answer of that kind may be begun."""
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
        """Something happens in this turn of the loop; makes sure that the next one is noticed."""
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
    """How many."""
    gone = 0
    while queue and gone < most:
        place = queue.popleft()
        # Its caller may have gone meanwhile.
        if not place.done():
            place.set_result(None)
            gone += 1
    return gone


class _Window:
    """What the limit is adjusted by: the most calls inside, how many left, how many full answers within the limit were
    `begun` and what these had waited in sum.
    """

    __slots__ = ("began_s", "begun", "inside", "left", "waited_s")

    def __init__(self, began_s: float, inside: int = 0):
        self.began_s, self.inside = began_s, inside
        self.begun = self.left = 0
        self.waited_s = 0.0

    def judge(self, limit: GradientLimit, now_s: float) -> None:
        if self.left and self.begun:
            # While calls wait the thread works without a pause, so this is what one of them takes of it.
            work_s = (now_s - self.began_s) / self.left
            limit.update(self.inside, work_s, self.waited_s / self.begun)


def _priority(metadata: Sequence[tuple[str, str | bytes]]) -> Priority:
    """As far as the metadata tell."""
    for priority, named in PRIORITY_METADATA.items():
        if named in metadata:
            return priority
    return Priority.NORMAL


class Doorman(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Rejects calls where gRPC asks for their handler: nothing of the message is read, nothing is built."""

    def __init__(
        self,
        methods: dict[str, Any],
        control: OverloadControl,
        admission: Admission,
        done: dict[str, RequestDone],
        worker: str = "",
    ):
        """methods: handlers by full method name; done: counts the end of each; worker: named to whoever is rejected."""
        self._methods, self._control, self._admission = methods, control, admission
        self._rejecting = {name: rejecting(done[name], worker) for name in methods}

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        handler = self._methods.get(details.method)
        # At a drain everybody is told that, and counted.
        if handler is None or self._admission.closed or self._control.arrive(details.invocation_metadata):
            return handler
        return self._rejecting[details.method]


def rejecting(done: RequestDone, worker: str = "") -> Any:
    """A handler that answers RESOURCE_EXHAUSTED with a delay to retry after, from statuses made beforehand.

    Declared as a stream of answers, of which there are none: gRPC then waits for no message and sends nothing but the
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
