"""Watches at work: waits for a watch's flag, looks, and gives what is to be sent.

    flag up -> smallest interval -> a place -> flag down -> probe (shared store) -> recommendation -> judge -> answer
    every so often, while there are watches: versions of all watched shoppers -> Watches.saw     (shared store)

While an answer is being written nothing happens here: the next look begins when its caller has taken it. A few looks
run at once, however many watches wait for one.
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
"""(query, whether the caller has no answer yet) -> what is recommended now; None: no room for it now."""


class WatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """interval_s: between two looks of one watch. probe_s: between two probes for all; probe_keys: of one batch, whose
    packing and reading must not hold up a turn of the loop for long; probe_within_s: for a batch. looks_at_once: a look
    waits for the store for most of its time; with 2 of them 100 looks a second fell behind on a busy machine.
    """

    interval_s: float = 0.1
    probe_s: float = 0.25
    probe_keys: int = 200
    probe_within_s: float = 0.5
    probe_pause_s_max: float = 5.0
    looks_at_once: int = 4


class WatchRunner:
    """`shared`: the store, if other processes write to it too; None: whatever is written this process acknowledges."""

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
        """Answers with their resume tokens, without an end. `last`: digest of the answer that the caller has, or empty.
        Raises what `look` raises. To close it ends the watch; nothing of it is left then.
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
                    # It is about the first answer. Later ones see what was acknowledged before them without it.
                    query = msgspec.structs.replace(query, consistency_token="")
                if answer is not None and outcome is Outcome.SENT:
                    yield answer, resume_token(watch.last)
                # While it waits for the next change no answer need be kept, sent or not.
                answer = None
        finally:
            self._close(watch)

    async def _look(self, watch: Watch, query: RecommendQuery, look: Look) -> tuple[Recommendation | None, Outcome]:
        async with self._places:
            # In this order: flag, probe, read. What becomes visible after the probe is found by the next one, what is
            # acknowledged here after the read raises the flag again.
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
            # The look says what is wrong. The next probe that succeeds raises the flag.
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
        """For ever. After a failure the pauses grow: the watches wait, and their streams stay open."""
        settings = self._settings
        pause_s = settings.probe_s
        while True:
            await self._sleep(pause_s)
            longer_s = min(settings.probe_pause_s_max, 2 * pause_s)
            pause_s = settings.probe_s if await self._probe_all(store) else longer_s

    async def _probe_all(self, store: GuardedStore) -> bool:
        """Whether all could be asked for."""
        for tenant, keys in self._watches.shoppers(self._settings.probe_keys):
            try:
                versions = await store.versions(tenant, keys, self._settings.probe_within_s)
            except (StoreUnavailable, TimeoutError) as error:
                _log.log(logging.WARNING, "probe", "watches wait: the store was not probed", error=error)
                return False
            self._watches.saw(tenant, keys, versions)
        return True
