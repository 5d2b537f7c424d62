"""Runs watches: waits for a watch's flag, looks, and yields the answers to be sent.

    flag up -> minimum interval -> a place -> flag down -> probe (shared store) -> recommendation -> judge -> answer
    periodically, while there are watches: versions of all watched shoppers -> Watches.saw       (shared store)

Nothing happens here while an answer is being written: the next look starts once the caller has taken it. Only a few
looks run at once, however many watches wait for one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

import msgspec

from recserv.errors import StoreUnavailable
from recserv.pipeline.guarded_store import GuardedStore
from recserv.pipeline.watch import Outcome, Watch, Watches
from recserv.pipeline.watch_answers import resume_token
from recserv.resilience.deadline import MonotonicClock
from recserv.resilience.endless import endless
from recserv.resilience.quiet_log import QuietLog
from recserv.types import Recommendation, RecommendQuery, ShopperKey

logger = logging.getLogger(__name__)
_log = QuietLog(logger)

Look = Callable[[RecommendQuery, bool], Awaitable[Recommendation | None]]
"""(query, whether the caller has no answer yet) -> the current answer; None: there is no room for a look now."""


class WatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """interval_s: between two looks of one watch. probe_s: between two probes of all shoppers; probe_keys: size of a
    batch, limited so that encoding and decoding it does not block the loop for long; probe_within_s: time limit of a
    batch. looks_at_once: looks mostly wait for the store; with 2, 100 looks a second fell behind on a busy machine.
    """

    interval_s: float = 0.1
    probe_s: float = 0.25
    probe_keys: int = 200
    probe_within_s: float = 0.5
    probe_pause_s_max: float = 5.0
    looks_at_once: int = 4


class WatchRunner:
    """`shared`: the store, if other processes write to it, too; None: this process acknowledges all events itself."""

    def __init__(
        self,
        watches: Watches,
        shared: GuardedStore | None,
        settings: WatchSettings | None = None,
        *,
        clock: MonotonicClock = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
    ):
        self._watches, self._shared = watches, shared
        self._settings = settings or WatchSettings()
        self._clock, self._sleep, self._random = clock, sleep, random
        self._places = asyncio.Semaphore(self._settings.looks_at_once)
        self._probing: asyncio.Task[None] | None = None

    @property
    def open_watches(self) -> int:
        return len(self._watches)

    @property
    def probing(self) -> bool:
        return self._probing is not None

    async def watch(
        self, query: RecommendQuery, last: bytes, look: Look
    ) -> AsyncGenerator[tuple[Recommendation, str], None]:
        """Yields answers with their resume tokens, endlessly. `last`: digest of the answer that the caller has, or
        empty. Raises what `look` raises. Closing the generator ends the watch and releases everything.
        """
        watch = Watch(query.tenant, ShopperKey(query.session_id, query.user_id), last)
        self._open(watch)
        try:
            while True:
                await watch.changed.wait()
                pause_s = watch.pause_s(self._clock(), self._settings.interval_s, self._random)
                if pause_s:
                    await self._sleep(pause_s)
                answer, outcome = await self._look(watch, query, look)
                self._watches.hooks.on_look(outcome)
                if outcome is not Outcome.POSTPONED and query.consistency_token:
                    # It is for the first answer. Later ones reflect all acknowledged events without it.
                    query = msgspec.structs.replace(query, consistency_token="")
                if answer is not None and outcome is Outcome.SENT:
                    yield answer, resume_token(watch.last)
                # Do not keep the answer while waiting for the next change, sent or not.
                answer = None
        finally:
            self._close(watch)

    async def _look(self, watch: Watch, query: RecommendQuery, look: Look) -> tuple[Recommendation | None, Outcome]:
        async with self._places:
            # In this order: flag, probe, read. Events that become visible after the probe are found by the next one;
            # events acknowledged here after the read raise the flag again.
            if watch.lower_flag() and self._shared is not None:
                await self._probe_one(watch, self._shared)
            asked = msgspec.structs.replace(query, known_answer=watch.last) if watch.last else query
            answer = await look(asked, not watch.last)
        return answer, watch.judge(answer, self._clock())

    async def _probe_one(self, watch: Watch, store: GuardedStore) -> None:
        try:
            [version] = await store.versions(watch.tenant, (watch.key,), self._settings.probe_within_s)
            watch.version = version or None
        except (StoreUnavailable, TimeoutError):
            # The look will label what is wrong. The next successful probe raises the flag.
            watch.version = None

    def _open(self, watch: Watch) -> None:
        self._watches.add(watch)
        if self._shared is not None and self._probing is None:
            self._probing = asyncio.create_task(endless(partial(self._probe, self._shared), "watch probes", logger))

    def _close(self, watch: Watch) -> None:
        self._watches.remove(watch)
        if not self._watches and self._probing is not None:
            self._probing.cancel()
            self._probing = None

    async def _probe(self, store: GuardedStore) -> None:
        """Probes for ever. After a failure the pauses grow; the watches wait, and their streams stay open."""
        settings = self._settings
        pause_s = settings.probe_s
        while True:
            await self._sleep(pause_s)
            longer_s = min(settings.probe_pause_s_max, 2 * pause_s)
            pause_s = settings.probe_s if await self._probe_all(store) else longer_s

    async def _probe_all(self, store: GuardedStore) -> bool:
        """Returns whether all shoppers could be probed."""
        for tenant, keys in self._watches.shoppers(self._settings.probe_keys):
            try:
                versions = await store.versions(tenant, keys, self._settings.probe_within_s)
            except (StoreUnavailable, TimeoutError) as error:
                _log.log(logging.WARNING, "probe", "watches wait: the store was not probed", error=error)
                return False
            self._watches.saw(tenant, keys, versions)
        return True
