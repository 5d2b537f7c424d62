"""The runner of enrichment jobs: they wait in a queue, a bounded number runs at a time, and every job ends.

    post -> queue -> claim (which texts are ours to write) -> writer -> texts as they land -> slots, cache, shared store
                                                             -> what is left: TEMPLATE, with its cause

With a shared store, this worker reports that it is alive and takes over the jobs of workers that died. No job outlives
its deadline: one that has waited too long is given up without being started.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence

import msgspec

from recserv.config_llm import LlmSettings
from recserv.errors import StoreUnavailable
from recserv.llm.base import LlmObserver, Writer
from recserv.pipeline.enrich_jobs import Job, JobQueue, Slot, TextCache
from recserv.pipeline.enrich_outbox import Outbox, decode_payload
from recserv.pipeline.enrich_pace import WINDOW_S, Pace
from recserv.pipeline.situation import Asked, Wanted
from recserv.resilience.deadline import Deadline
from recserv.resilience.endless import endless
from recserv.resilience.quiet_log import QuietLog
from recserv.stores.explanations_base import BEAT_S, ExplanationStore, Outcome, PostedJob
from recserv.types import Clock, Priority, TemplateCause

logger = logging.getLogger("recserv.enrich")
quiet = QuietLog(logger)

ELSEWHERE_POLL_S, ELSEWHERE_POLL_S_MAX = 0.05, 1.0
"""First and longest pause before a job asks again whether other workers have written its texts; doubled each time."""
ORPHANS_AT_ONCE = 100


class EnrichRunner:
    """To be created and used on one event loop. Nothing runs before `start`."""

    def __init__(
        self,
        settings: LlmSettings,
        writer: Writer,
        store: ExplanationStore,
        outbox: Outbox,
        clock: Clock,
        observer: LlmObserver,
        *,
        pace: Pace | None = None,
    ):
        self._settings, self._writer, self._store, self._observer = settings, writer, store, observer
        self._outbox, self._clock = outbox, clock
        self.texts = TextCache(clock, settings.cache_ttl_s)
        self.queue = JobQueue(settings.queue_max)
        self._slots: dict[tuple[str, bytes], Slot] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._pace = pace or Pace()
        self._prefix = secrets.token_hex(6)
        self._posted = 0

    @property
    def in_flight(self) -> int:
        """Number of jobs that are running."""
        return len(self._running)

    def start(self) -> None:
        works = {"pump": self._pump, "sweep": self._sweep}
        if self._store.shared:
            works["live"] = self._live
        self._tasks = [asyncio.create_task(endless(work, name, logger)) for name, work in works.items()]

    async def close(self) -> None:
        """Stops immediately. With a shared store another worker takes the jobs over."""
        for task in (*self._tasks, *self._running):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._running, return_exceptions=True)

    def closed(self, priority: Priority) -> TemplateCause:
        """Why no new text of that priority can be written now; None if one can."""
        cause = self._writer.closed()
        if not cause and self.queue.full(priority):
            return TemplateCause.QUEUE_FULL
        return cause

    def refuse(self, texts: int, priority: Priority) -> None:
        """Counts the jobs for so many texts that a full queue turned away, without building them: in a spike, building
        them would be most of the cost of explanations.
        """
        self._dropped(priority, -(-texts // self._settings.items_per_call))

    def slot(self, tenant: str, key: bytes) -> Slot | None:
        """The slot of the text, if it is pending."""
        return self._slots.get((tenant, key))

    def open_slot(self, tenant: str, key: bytes) -> Slot:
        slot = self._slots[tenant, key] = Slot(tenant, key)
        return slot

    def post(self, asked: Asked, fresh: Sequence[tuple[Slot, Wanted]], now_ms: int) -> None:
        """Queues jobs for new slots, in constant time. A full queue drops what matters least."""
        size = self._settings.items_per_call
        for begin in range(0, len(fresh), size):
            part = fresh[begin : begin + size]
            self._posted += 1
            job = Job(
                job_id=f"{self._prefix}-{self._posted:x}",
                tenant=asked.tenant,
                slots=[slot for slot, _ in part],
                priority=asked.priority,
                posted_ms=now_ms,
                deadline_ms=now_ms + round(self._settings.job_deadline_s * 1000),
                asked=asked,
                wanted=[wanted for _, wanted in part],
            )
            self._enqueue(job)

    def _enqueue(self, job: Job) -> None:
        dropped = self.queue.put(job)
        if dropped is not job:
            self._outbox.job(job)
        if dropped is not None:
            self._dropped(dropped.priority)
            self._end(dropped, TemplateCause.QUEUE_FULL, "dropped")
        self._wake.set()

    def _dropped(self, priority: Priority, jobs: int = 1) -> None:
        self._observer.dropped(f"queue_{priority.name.lower()}", jobs)

    async def _pump(self) -> None:
        # After a restart, jobs that already wait are not announced again.
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while len(self._running) < self._settings.in_flight_max and len(self.queue):
                if wait_s := self._pace.wait_s():
                    await asyncio.sleep(wait_s)
                    continue
                job = self.queue.pop()
                assert job is not None
                self._pace.began()
                task = asyncio.create_task(self._run(job))
                self._running.add(task)
                task.add_done_callback(self._done)
                # Calls that hang time out together; without this the next ones would all start in one turn of the loop.
                await asyncio.sleep(0)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()

    async def _run(self, job: Job) -> None:
        cause = TemplateCause.PROVIDER_FAILED
        try:
            cause = await self._work(job)
        except StoreUnavailable as error:
            quiet.log(logging.WARNING, "lost", "a job lost the shared store", fields={"cause": str(error)})
        except Exception:
            logger.exception("a job broke")
        self._end(job, cause)

    async def _work(self, job: Job) -> TemplateCause:
        """Runs until every slot has its text or cannot get one. Returns the cause for the latter."""
        deadline = Deadline((job.deadline_ms - self._clock()) / 1000)
        cause, pause_s = TemplateCause.EXPIRED, ELSEWHERE_POLL_S
        while (open_keys := [slot.key for slot in job.slots if not slot.final]) and deadline.remaining_s() > 0:
            mine = await self._claimed(job, open_keys)
            if not mine:
                # Another worker is writing all of them.
                await asyncio.sleep(min(pause_s, max(0.0, deadline.remaining_s())))
                pause_s = min(2 * pause_s, ELSEWHERE_POLL_S_MAX)
                continue
            task = job.task
            wanted = msgspec.structs.replace(task, items=tuple(item for item in task.items if item.key in mine))
            written = await self._writer.write(wanted, deadline, lambda key, text: self._land(job, key, text))
            cause = written.cause
            for slot in job.slots:
                if slot.key in mine and not slot.final:
                    slot.fail(cause or TemplateCause.DISCARDED)
        return cause

    async def _claimed(self, job: Job, keys: list[bytes]) -> frozenset[bytes]:
        """The keys that this worker may write. Texts that others have written meanwhile fill their slots."""
        if not self._store.shared:
            return frozenset(keys)
        claims = await self._store.claim(job.tenant, keys)
        for slot in job.slots:
            for key, claim in zip(keys, claims, strict=True):
                if slot.key == key and claim.text:
                    self._keep(slot, claim.text)
        return frozenset(key for key, claim in zip(keys, claims, strict=True) if claim.mine)

    def _keep(self, slot: Slot, text: str) -> None:
        self.texts.put(slot.tenant, slot.key, text)
        slot.fill(text)

    def _land(self, job: Job, key: bytes, text: str) -> None:
        for slot in job.slots:
            if slot.key == key and not slot.final:
                self._keep(slot, text)
                self._outbox.settled(
                    job.tenant, job.job_id, ((key, Outcome(text, ready_ms=self._clock())),), done=False
                )

    def _end(self, job: Job, cause: TemplateCause, outcome: str = "") -> None:
        """Makes every slot of the job final, in this worker and for the others."""
        job.fail(cause or TemplateCause.DISCARDED)
        now_ms = self._clock()
        failed = []
        for slot in job.slots:
            if self._slots.get((slot.tenant, slot.key)) is slot:
                del self._slots[slot.tenant, slot.key]
            if not slot.text:
                failed.append((slot.key, Outcome(failed_ms=now_ms, cause=slot.cause)))
        self._outbox.settled(job.tenant, job.job_id, failed, done=True)
        texts = len(job.slots) - len(failed)
        named = outcome or ("ready" if not failed else "partly" if texts else job.slots[0].cause.name.lower())
        self._observer.job(named, (now_ms - job.posted_ms) / 1000)

    async def _sweep(self) -> None:
        """Gives up jobs that waited too long, even if none is started; measures how busy the loop is."""
        while True:
            await asyncio.sleep(WINDOW_S)
            self._pace.look()
            for job in self.queue.expired(self._clock()):
                self._end(job, TemplateCause.EXPIRED)

    async def _live(self) -> None:
        while True:
            try:
                await self._store.beat()
                room = self._settings.queue_max - len(self.queue)
                for posted in await self._store.orphans(min(ORPHANS_AT_ONCE, room)) if room > 0 else ():
                    self._take_over(posted)
            except StoreUnavailable as error:
                quiet.log(logging.WARNING, "lease", "the lease was not extended", fields={"cause": str(error)})
            await asyncio.sleep(BEAT_S)

    def _take_over(self, posted: PostedJob) -> None:
        """Takes over a job of a dead worker, without the texts that this worker is writing already."""
        try:
            payload = decode_payload(posted.payload)
        except msgspec.MsgspecError:
            logger.warning("a job of another version is given up")
            self._outbox.settled(posted.tenant, posted.job_id, (), done=True)
            return
        items = tuple(item for item in payload.task.items if (posted.tenant, item.key) not in self._slots)
        job = Job(
            job_id=posted.job_id,
            tenant=posted.tenant,
            slots=[self.open_slot(posted.tenant, item.key) for item in items],
            priority=payload.priority,
            posted_ms=payload.posted_ms,
            deadline_ms=payload.deadline_ms,
            given=msgspec.structs.replace(payload.task, items=items),
            takeovers=posted.takeovers,
        )
        logger.info("a job was taken over", extra={"fields": {"items": len(items), "takeovers": posted.takeovers}})
        if items:
            self._enqueue(job)
        else:
            self._outbox.settled(posted.tenant, posted.job_id, (), done=True)
