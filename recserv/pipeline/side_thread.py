"""A thread beside the event loop for work that can neither be cancelled nor be trusted to return: searches of an index
that may wait, scores of a ranker that may wait.

The event loop starts a job, and waits no longer than its budget. At most `pending_max` jobs are under way or queued:
behind one that hangs, later requests are told at once instead of waiting for it. A job that nobody waits for any more
(its future is cancelled) is not begun. A thread that has been in one job for `stuck_s` is left to itself and another
takes the queue over; at most `threads_max` of them exist, so a fault that goes on hanging cannot pile threads up.

A queue and threads of its own instead of concurrent.futures: a hand-over costs half as much.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

from recserv.errors import RecservError
from recserv.resilience.deadline import MonotonicClock

Work = Callable[..., Any]


class TooManyWaiting(RecservError):
    """Nobody can take another job on."""

    reason = "TOO_MANY_WAITING"


class _Job(NamedTuple):
    work: Work
    arguments: tuple[Any, ...]
    future: asyncio.Future[Any]


class _Worker:
    """One thread and what it is at: `busy_since_s` None between jobs."""

    __slots__ = ("busy_since_s", "retired", "thread")

    def __init__(self) -> None:
        self.busy_since_s: float | None = None
        self.retired = False
        self.thread: threading.Thread


class SideThread:
    """Begins with the first job; daemons, since work that hangs must not keep the process from ending."""

    def __init__(
        self,
        name: str,
        *,
        pending_max: int = 64,
        threads_max: int = 4,
        stuck_s: float = 1.0,
        clock: MonotonicClock = time.monotonic,
    ):
        self._name, self._clock = name, clock
        self._pending_max, self._threads_max, self._stuck_s = pending_max, threads_max, stuck_s
        self._pending = 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._workers: list[_Worker] = []

    @property
    def pending(self) -> int:
        """Jobs under way or queued."""
        return self._pending

    @property
    def threads(self) -> int:
        """Threads alive, stuck ones included."""
        return len(self._workers)

    def start(self, work: Work, *arguments: Any) -> asyncio.Future[Any]:
        """Begins `work(*arguments)`. Raises TooManyWaiting."""
        if self._pending >= self._pending_max:
            raise TooManyWaiting(f"{self._pending} jobs of {self._name} are waiting")
        self._see_to_a_worker()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending += 1
        self._jobs.put(_Job(work, arguments, future))
        return future

    def close(self) -> None:
        """Does not wait for work that hangs. A job after it starts another thread."""
        for _ in self._workers:
            self._jobs.put(None)
        self._jobs, self._workers = SimpleQueue(), []

    def _see_to_a_worker(self) -> None:
        """At least one thread that is not stuck, if there may be another."""
        self._workers = [worker for worker in self._workers if worker.thread.is_alive()]
        now_s = self._clock()
        for worker in self._workers:
            since_s = worker.busy_since_s
            if since_s is None or now_s - since_s < self._stuck_s:
                return
        if len(self._workers) >= self._threads_max:
            raise TooManyWaiting(f"{len(self._workers)} threads of {self._name} are stuck")
        for worker in self._workers:
            worker.retired = True
        worker = _Worker()
        worker.thread = threading.Thread(target=self._work, args=(worker, self._jobs), name=self._name, daemon=True)
        self._workers.append(worker)
        worker.thread.start()

    def _work(self, worker: _Worker, jobs: SimpleQueue[_Job | None]) -> None:
        while not worker.retired and (job := jobs.get()) is not None:
            outcome: Any = None
            if not job.future.cancelled():
                worker.busy_since_s = self._clock()
                try:
                    outcome = job.work(*job.arguments)
                except BaseException as error:  # whatever it is, the one who waits must hear of it
                    outcome = error
                worker.busy_since_s = None
            try:
                job.future.get_loop().call_soon_threadsafe(self._finish, job.future, outcome)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _finish(self, future: asyncio.Future[Any], outcome: Any) -> None:
        self._pending -= 1
        if future.cancelled():
            return
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
            # Marks the error as seen: work that outlived its request has nobody else to look at it.
            future.exception()
        else:
            future.set_result(outcome)


async def within(search: asyncio.Future[Any], seconds: float) -> Any:
    """The result of a job, waited for so long at most; raises what it raised, or TimeoutError and gives it up."""
    try:
        # `wait` neither cancels the job nor raises: it cannot be stopped, only left alone.
        await asyncio.wait((search,), timeout=max(0.0, seconds))
        if not search.done():
            raise TimeoutError
        return search.result()
    finally:
        search.cancel()
