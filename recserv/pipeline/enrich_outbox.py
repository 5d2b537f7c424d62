"""Writes what other workers must know (tokens, jobs, outcomes) to the shared store, off the request path.

Entries are sent in order, in batches of whatever has accumulated. Bounded: what does not fit is dropped and counted. A
dropped token is known to this worker only; a token whose outcome was dropped ends when its time is up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

import msgspec

from recserv.errors import StoreUnavailable
from recserv.llm.base import LlmObserver, WritingTask
from recserv.pipeline.enrich_jobs import Entry, Job
from recserv.pipeline.enrich_remote import encoded
from recserv.resilience.quiet_log import QuietLog
from recserv.stores.explanations_base import ExplanationStore, Outcome, Post, PostedJob
from recserv.types import Clock, Priority

logger = logging.getLogger("recserv.enrich")
quiet = QuietLog(logger)

ITEMS_MAX = 10_000
BATCH_MAX = 256
TRIES = 3
RETRY_S = 0.2
CLOSE_S = 1.0


class JobPayload(msgspec.Struct, frozen=True, array_like=True):
    """A job in the form in which another worker can take it over."""

    priority: Priority
    posted_ms: int
    deadline_ms: int
    task: WritingTask


encode_payload = msgspec.msgpack.Encoder().encode
decode_payload = msgspec.msgpack.Decoder(JobPayload).decode


class _Token(msgspec.Struct, frozen=True):
    tenant: str
    token: str
    entries: Sequence[Entry]
    posted_ms: int
    end_ms: int


class _Settled(msgspec.Struct, frozen=True):
    tenant: str
    job_id: str
    outcomes: Sequence[tuple[bytes, Outcome]]
    done: bool


def _merged(batch: Sequence[_Token | Job | _Settled]) -> list[_Settled]:
    """Outcomes, sent once for each job: its texts land one by one, but mostly at nearly the same time."""
    by_job: dict[tuple[str, str], _Settled] = {}
    for item in batch:
        if isinstance(item, _Settled):
            before = by_job.get((item.tenant, item.job_id))
            outcomes = (*before.outcomes, *item.outcomes) if before is not None else item.outcomes
            done = item.done or (before is not None and before.done)
            by_job[item.tenant, item.job_id] = _Settled(item.tenant, item.job_id, outcomes, done)
    return list(by_job.values())


class Outbox:
    def __init__(self, store: ExplanationStore, clock: Clock, observer: LlmObserver):
        self._store, self._clock, self._observer = store, clock, observer
        self._items: deque[_Token | Job | _Settled] = deque()
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.idle = asyncio.Event()
        self.idle.set()

    def start(self) -> None:
        if self._store.shared:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Sends what is left, but only for a short time."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.idle.wait()
        except TimeoutError:
            logger.warning("explanations were left unshared", extra={"fields": {"items": len(self._items)}})
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def token(self, tenant: str, token: str, entries: Sequence[Entry], end_ms: int) -> None:
        self._put(_Token(tenant, token, entries, self._clock(), end_ms))

    def job(self, job: Job) -> None:
        self._put(job)

    def settled(self, tenant: str, job_id: str, outcomes: Sequence[tuple[bytes, Outcome]], *, done: bool) -> None:
        self._put(_Settled(tenant, job_id, outcomes, done))

    def _put(self, item: _Token | Job | _Settled) -> None:
        if not self._store.shared:
            return
        if len(self._items) >= ITEMS_MAX:
            self._observer.dropped("outbox")
            return
        self._items.append(item)
        self._filled.set()
        self.idle.clear()

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            # Entries that the same turn of the loop adds are sent together.
            await asyncio.sleep(0)
            batch = [self._items.popleft() for _ in range(min(BATCH_MAX, len(self._items)))]
            try:
                await self._send(batch)
            except Exception as error:
                # A batch that fails must not hold back the next ones.
                fields = {"items": len(batch)}
                quiet.log(logging.ERROR, "broke", "explanations were not shared", fields=fields, error=error)
                self._observer.dropped("outbox", len(batch))
            if not self._items:
                self._filled.clear()
                self.idle.set()

    async def _send(self, batch: list[_Token | Job | _Settled]) -> None:
        posts = [self._post(item) for item in batch if not isinstance(item, _Settled)]
        settled = _merged(batch)
        for attempt in range(TRIES):
            try:
                # All writes in it are idempotent.
                if posts:
                    await self._store.publish(posts)
                await self._settle(settled)
                return
            except StoreUnavailable as error:
                if attempt == TRIES - 1:
                    fields = {"items": len(batch), "cause": str(error)}
                    quiet.log(logging.WARNING, "unshared", "explanations were not shared", fields=fields)
            await asyncio.sleep(RETRY_S)
        self._observer.dropped("outbox", len(batch))

    async def _settle(self, settled: Sequence[_Settled]) -> None:
        """Writes them concurrently. Returns when the last is done, so that none can land after a later outcome."""
        calls = [self._store.settle(one.tenant, one.job_id, one.outcomes, done=one.done) for one in settled]
        for found in await asyncio.gather(*calls, return_exceptions=True):
            if found is not None:
                raise found

    def _post(self, item: _Token | Job) -> Post:
        if isinstance(item, _Token):
            return Post(item.tenant, item.token, encoded(item.posted_ms, item.end_ms, item.entries))
        payload = encode_payload(JobPayload(item.priority, item.posted_ms, item.deadline_ms, item.task))
        return Post(item.tenant, "", b"", (PostedJob(item.job_id, item.tenant, payload, item.takeovers),))
