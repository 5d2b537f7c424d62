"""How the calls of one process reach one Redis: in order, in batches, never more than a few batches under way.

    submit*      -> queue          at once; nothing is sent before the event loop has had its turn
    queue        -> batch -> link  all that has queued, as soon as a link is free
    replies      -> calls          as they come in

So the reads of concurrent requests in one turn of the loop travel together, and when the server is slow, larger batches
follow by themselves. A call is only ever put into a batch that has not been sent. Batches run in tasks of their own: a
caller that is cancelled neither stops nor loses anything.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from recserv.stores.redis_faults import Fault
from recserv.stores.redis_link import Call, RedisLink


class Lane:
    """`links`: as many batches may be under way; with one link, calls are carried out in the order of `submit`.

    `batch_weight_max`: of the calls in a batch, but for one that is heavier by itself.
    """

    def __init__(self, links: Sequence[RedisLink], *, batch_weight_max: int, queue_max: int):
        self._links = links
        self._idle = list(links)
        self._batch_weight_max = batch_weight_max
        self._queue_max = queue_max
        self._queue: deque[Call] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._flushing = False

    def submit(self, call: Call) -> None:
        """Never blocks; a call that finds the queue full fails."""
        if len(self._queue) >= self._queue_max:
            call.fail(Fault("queue_full", f"{len(self._queue)} calls are waiting already"))
            return
        self._queue.append(call)
        self._wake()

    def _wake(self) -> None:
        if self._idle and self._queue and not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        while self._idle and self._queue:
            batch = self._take()
            if batch:
                task = asyncio.get_running_loop().create_task(self._run(self._idle.pop(), batch))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    def _take(self) -> list[Call]:
        """The next batch, without calls that nobody waits for any more: they were never sent, so nothing is lost."""
        batch: list[Call] = []
        weight = 0
        while self._queue:
            call = self._queue[0]
            if batch and weight + call.weight > self._batch_weight_max:
                break
            self._queue.popleft()
            if call.open:
                batch.append(call)
                weight += call.weight
        return batch

    async def _run(self, link: RedisLink, batch: list[Call]) -> None:
        try:
            await self._exchange(link, batch)
        finally:
            for call in batch:
                call.fail(Fault("client_error", "the call ended without an answer"))
            self._idle.append(link)
            self._wake()

    async def _exchange(self, link: RedisLink, batch: list[Call]) -> None:
        """A connection that broke may have been closed long before, by a server that was restarted: what has no answer
        is sent once more. Every call may be repeated: reads, and scripts that recognise what they have done already.
        """
        for last in (False, True):
            try:
                await link.exchange(batch)
                return
            except Fault as fault:
                if last or fault.cause != "connection_lost":
                    for call in batch:
                        call.fail(fault)
                    if fault.cause == "timeout":
                        self._give_up(fault)
                    return

    def _give_up(self, fault: Fault) -> None:
        """Fails the queued calls as well: they waited for a silent server long enough; later calls may try again."""
        while self._queue:
            self._queue.popleft().fail(fault)

    async def drain(self) -> None:
        """Returns once nothing is queued or in flight."""
        while self._queue or self._running:
            await asyncio.wait(self._running) if self._running else await asyncio.sleep(0)

    async def close(self) -> None:
        await self.drain()
        for link in self._links:
            await link.close()
