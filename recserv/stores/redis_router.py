"""Routes calls to the node that owns their slot: lanes to every node, redirects followed, failovers noticed.

A call that a node refuses because it is not (or no longer) the primary is sent once more, to the one that is, if asking
finds another. Everything that is tried is bounded: so many redirects, one refresh at a time, a pause between two.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

import msgspec

from recserv.resilience.deadline import MonotonicClock
from recserv.stores.redis_faults import Fault, Redirect
from recserv.stores.redis_lane import Lane
from recserv.stores.redis_link import Argument, Call, LinkTimeouts, RedisLink
from recserv.stores.redis_topology import make_topology
from recserv.stores.redis_url import Address, Mode, RedisTarget

_log = logging.getLogger(__name__)

ATTEMPTS_MAX = 4
REFRESH_PAUSE_S = 0.1
READ_LINKS = 1
"""One batch of reads in flight: what arrives meanwhile goes into the next. With two there were a third more batches."""
READ_BATCH_MAX = 512
WRITE_BATCH_EVENTS_MAX = 256
QUEUE_MAX = 20_000


class RedisTimeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Each bounds what its name says; in addition, a call may wait for the batches before it."""

    connect_s: float = 0.15
    read_s: float = 0.15
    write_s: float = 0.25


class Router:
    """`scripts` are loaded on every connection that writes."""

    def __init__(
        self,
        target: RedisTarget,
        timeouts: RedisTimeouts,
        scripts: Sequence[bytes],
        monotonic: MonotonicClock = time.monotonic,
    ):
        self._target = target
        self._timeouts = timeouts
        self._scripts = scripts
        self._monotonic = monotonic
        self.topology = make_topology(target, LinkTimeouts(connect_s=timeouts.connect_s, exchange_s=timeouts.connect_s))
        self._reads: dict[Address, Lane] = {}
        self._writes: dict[Address, Lane] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_s = -REFRESH_PAUSE_S

    async def open(self) -> None:
        """Raises Fault."""
        await self.topology.refresh()

    async def close(self) -> None:
        for lane in [*self._writes.values(), *self._reads.values()]:
            await lane.close()
        if self._refreshing is not None:
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await self.topology.close()

    @property
    def by_slot(self) -> bool:
        """Whether a command may only name keys of one slot."""
        return self._target.mode is Mode.CLUSTER

    def begin(self, slot: int, args: Sequence[Argument], *, write: bool, weight: int = 1) -> Call:
        """Hands the command over, in order; nothing is awaited. `finish` gives the answer."""
        call = Call(args, weight)
        try:
            call.address = self.topology.address_of(slot)
            self._lane(call.address, write).submit(call)
        except Fault as fault:
            call.fail(fault)
        return call

    async def finish(self, slot: int, call: Call, *, write: bool) -> object:
        """The answer to a call that was begun. Raises Fault."""
        for _ in range(ATTEMPTS_MAX):
            try:
                return await call.reply
            except Redirect as redirect:
                call = self._redirected(redirect, call, write)
            except Fault as fault:
                if not fault.stale_node or not await self._found_another(slot, call.address, fault):
                    raise
                call = self.begin(slot, call.args, write=write, weight=call.weight)
        return await call.reply

    def _redirected(self, redirect: Redirect, call: Call, write: bool) -> Call:
        asking = redirect.cause == "ask"
        if not asking:
            self.topology.moved(redirect.slot, redirect.address)
            self._refresh_later()
        again = Call(call.args, call.weight, asking=asking)
        # ASK redirects this call alone; the slot keeps its owner.
        again.address = call.address if asking else redirect.address
        self._lane(redirect.address, write).submit(again)
        return again

    async def _found_another(self, slot: int, asked: Address | None, fault: Fault) -> bool:
        """Whether the slot has another owner by now than the one `asked`, which others may have found out meanwhile.
        After a timeout there is no time left to wait for the answer.
        """
        refreshing = self._refresh_later() if self._owner(slot) in (None, asked) else None
        if fault.cause == "timeout":
            return False
        if refreshing is not None:
            await asyncio.shield(refreshing)
        return self._owner(slot) not in (None, asked)

    def _owner(self, slot: int) -> Address | None:
        try:
            return self.topology.address_of(slot)
        except Fault:
            return None

    def _refresh_later(self) -> asyncio.Task[None] | None:
        """The refresh under way; a new one if the last is not too recent."""
        if self._refreshing is not None and not self._refreshing.done():
            return self._refreshing
        if self._monotonic() - self._refreshed_s < REFRESH_PAUSE_S:
            return None
        self._refreshed_s = self._monotonic()
        self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
        return self._refreshing

    async def _refresh(self) -> None:
        before = self.topology.addresses()
        try:
            await self.topology.refresh()
        except Fault as fault:
            _log.warning("the location of Redis could not be looked up: %s", fault)
            return
        after = self.topology.addresses()
        if after != before:
            _log.warning("Redis is at %s now, was at %s", ", ".join(map(str, after)), ", ".join(map(str, before)))

    def _lane(self, address: Address, write: bool) -> Lane:
        lanes = self._writes if write else self._reads
        lane = lanes.get(address)
        if lane is None:
            lane = lanes[address] = self._make_lane(address, write)
        return lane

    def _make_lane(self, address: Address, write: bool) -> Lane:
        exchange_s = self._timeouts.write_s if write else self._timeouts.read_s
        timeouts = LinkTimeouts(connect_s=self._timeouts.connect_s, exchange_s=exchange_s)
        scripts = self._scripts if write else ()
        links = [RedisLink(self._target, address, timeouts, scripts) for _ in range(1 if write else READ_LINKS)]
        return Lane(links, batch_weight_max=WRITE_BATCH_EVENTS_MAX if write else READ_BATCH_MAX, queue_max=QUEUE_MAX)
