"""A thread beside the event loop for work that can be neither cancelled nor trusted to return: calls of an index or a
ranker that may block.

The event loop submits a job and waits for it within its budget. At most `pending_max` jobs are under way or queued: if
one hangs, later requests fail at once instead of waiting behind it. A job whose future is cancelled is not started. A
thread that has been in one job for `stuck_s` is abandoned, and another takes over the queue; at most `threads_max`
exist, so that a persistent fault cannot pile up threads.

Not concurrent.futures, whose hand-over costs twice as much.
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
    """The queue is full."""

    reason = "TOO_MANY_WAITING"


class _Job(NamedTuple):
    work: Work
    arguments: tuple[Any, ...]
    future: asyncio.Future[Any]


class _Worker:
    """One thread. `busy_since_s`: start of its current job; None between jobs."""

    __slots__ = ("busy_since_s", "retired", "thread")

    def __init__(self) -> None:
        self.busy_since_s: float | None = None
        self.retired = False
        self.thread: threading.Thread


class SideThread:
    """Threads start with the first job. They are daemons: work that hangs must not keep the process from exiting."""

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
        """Threads alive, including stuck ones."""
        return len(self._workers)

    def start(self, work: Work, *arguments: Any) -> asyncio.Future[Any]:
        """Submits `work(*arguments)`. Raises TooManyWaiting."""
        if self._pending >= self._pending_max:
            raise TooManyWaiting(f"{self._pending} jobs of {self._name} are waiting")
        self._see_to_a_worker()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending += 1
        self._jobs.put(_Job(work, arguments, future))
        return future

    def close(self) -> None:
        """Ends the threads, without waiting for work that hangs. A later job starts a new thread."""
        for _ in self._workers:
            self._jobs.put(None)
        self._jobs, self._workers = SimpleQueue(), []

    def _see_to_a_worker(self) -> None:
        """Ensures a thread that is not stuck, as long as another one may be started."""
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
            # Marks the error as retrieved: work that outlived its request has no other reader.
            future.exception()
        else:
            future.set_result(outcome)


async def within(search: asyncio.Future[Any], seconds: float) -> Any:
    """The result of a job; raises what the job raised. After `seconds` gives it up and raises TimeoutError."""
    try:
        # `wait` neither cancels the job nor raises: the job cannot be stopped, only abandoned.
        await asyncio.wait((search,), timeout=max(0.0, seconds))
        if not search.done():
            raise TimeoutError
        return search.result()
    finally:
        search.cancel()
