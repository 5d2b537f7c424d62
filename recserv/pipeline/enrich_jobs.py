"""Enrichment jobs: what waits for a language model, in which order, and who waits for the texts.

Slot   one pending text, shared by everyone who wants it
Job    the slots that one call will fill, with priority and deadline
queue  jobs, highest priority first, then oldest first; bounded: a full queue drops the lowest priority
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from recserv.llm.base import WritingTask
from recserv.pipeline.situation import Asked, Wanted
from recserv.types import Clock, Explanation, ExplanationState, Priority, TemplateCause


class Slot:
    """PENDING until `fill` or `fail` is called, once. Watchers are events that are set then."""

    __slots__ = ("cause", "key", "tenant", "text", "watchers")

    def __init__(self, tenant: str, key: bytes):
        self.tenant, self.key = tenant, key
        self.text = ""
        self.cause = TemplateCause.UNSPECIFIED
        self.watchers: list[asyncio.Event] = []

    @property
    def final(self) -> bool:
        return bool(self.text) or self.cause is not TemplateCause.UNSPECIFIED

    def fill(self, text: str) -> None:
        if not self.final:
            self.text = text
            self._tell()

    def fail(self, cause: TemplateCause) -> None:
        if not self.final:
            self.cause = cause
            self._tell()

    def _tell(self) -> None:
        for watcher in self.watchers:
            watcher.set()
        self.watchers.clear()


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An item of an answer: final from the start (`text` or `cause` set), or in the state of its slot."""

    item_id: str
    template: str
    key: bytes = b""
    text: str = ""
    cause: TemplateCause = TemplateCause.UNSPECIFIED
    slot: Slot | None = None

    def explanation(self, *, over: bool = False) -> Explanation:
        """The current explanation. `over`: its time is up, so a pending text stays the template for good."""
        text, cause = self.text, self.cause
        if self.slot is not None:
            text, cause = self.slot.text, self.slot.cause
        if text:
            return Explanation(self.item_id, text, ExplanationState.READY)
        if cause is TemplateCause.UNSPECIFIED and not over:
            return Explanation(self.item_id, self.template, ExplanationState.PENDING)
        return Explanation(self.item_id, self.template, ExplanationState.TEMPLATE, cause or TemplateCause.EXPIRED)


@dataclass(slots=True, eq=False)
class Job:
    """`wanted`: key, item row and template text of each item, in the order of `slots`. The task is built from it and
    `asked` only when it is needed.
    """

    job_id: str
    tenant: str
    slots: list[Slot]
    priority: Priority
    posted_ms: int
    deadline_ms: int
    asked: Asked | None = None
    wanted: Sequence[Wanted] = ()
    given: WritingTask | None = None
    takeovers: int = 0

    @property
    def task(self) -> WritingTask:
        if self.given is None:
            assert self.asked is not None
            self.given = self.asked.task(self.wanted)
            self.asked = None
        return self.given

    def fail(self, cause: TemplateCause) -> None:
        for slot in self.slots:
            slot.fail(cause)


class JobQueue:
    """Bounded. Not thread-safe: for the event loop only."""

    def __init__(self, jobs_max: int):
        self._jobs_max = jobs_max
        self._lanes: dict[Priority, deque[Job]] = {
            priority: deque() for priority in (Priority.HIGH, Priority.NORMAL, Priority.LOW)
        }
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def full(self, priority: Priority) -> bool:
        """Whether there is no room for a job of that priority: all queued jobs matter at least as much."""
        return self._size >= self._jobs_max and self._lowest_below(priority) is None

    def _lowest_below(self, priority: Priority) -> deque[Job] | None:
        return next((lane for of, lane in reversed(self._lanes.items()) if lane and of < priority), None)

    def put(self, job: Job) -> Job | None:
        """Queues the job. Returns the job dropped for it: itself, if all queued jobs matter at least as much."""
        dropped = None
        if self._size >= self._jobs_max:
            lowest = self._lowest_below(job.priority)
            if lowest is None:
                return job
            dropped = lowest.popleft()
            self._size -= 1
        self._lanes[job.priority].append(job)
        self._size += 1
        return dropped

    def pop(self) -> Job | None:
        for lane in self._lanes.values():
            if lane:
                self._size -= 1
                return lane.popleft()
        return None

    def expired(self, now_ms: int) -> list[Job]:
        """Removes the jobs at the head of each lane whose deadline has passed."""
        found = []
        for lane in self._lanes.values():
            while lane and lane[0].deadline_ms <= now_ms:
                found.append(lane.popleft())
        self._size -= len(found)
        return found


class TextCache:
    """Texts by (tenant, key) for as long as they may be shown; evicts the least recently used first."""

    def __init__(self, clock: Clock, ttl_s: float, texts_max: int = 50_000):
        self._clock, self._ttl_ms, self._texts_max = clock, round(ttl_s * 1000), texts_max
        self._texts: OrderedDict[tuple[str, bytes], tuple[int, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._texts)

    def get(self, tenant: str, key: bytes, now_ms: int) -> str:
        """The text, or empty if there is none."""
        name = (tenant, key)
        found = self._texts.get(name)
        if found is None:
            return ""
        if found[0] <= now_ms:
            del self._texts[name]
            return ""
        self._texts.move_to_end(name)
        return found[1]

    def put(self, tenant: str, key: bytes, text: str) -> None:
        self._texts[tenant, key] = (self._clock() + self._ttl_ms, text)
        self._texts.move_to_end((tenant, key))
        if len(self._texts) > self._texts_max:
            self._texts.popitem(last=False)
