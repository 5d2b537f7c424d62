"""The explanation store of one process: dictionaries with bounds. The reference of the contract suite.

A `Shelf` holds what workers share; each worker has a `MemoryExplanationStore` on it. One process has one worker, and
then nothing is published at all; tests put several on one shelf.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from recserv.stores.explanations_base import LEASE_S, TAKEOVERS_MAX, Claim, Outcome, Post, PostedJob
from recserv.types import DAY_MS, Clock

TOKENS_MAX = 10_000
OUTCOMES_MAX = 50_000
MINUTE_MS = 60_000


class Shelf:
    """What the workers of one process share. Times in milliseconds of the wall clock."""

    def __init__(self) -> None:
        self.tokens: OrderedDict[tuple[str, str], tuple[int, bytes]] = OrderedDict()
        self.outcomes: OrderedDict[tuple[str, bytes], tuple[int, Outcome]] = OrderedDict()
        self.claims: dict[tuple[str, bytes], str] = {}
        self.jobs: dict[str, dict[str, PostedJob]] = {}
        self.leases: dict[str, int] = {}
        self.spend: dict[str, int] = {}


class MemoryExplanationStore:
    def __init__(
        self,
        clock: Clock,
        *,
        cache_ttl_s: float = 86400.0,
        token_ttl_s: float = 600.0,
        shelf: Shelf | None = None,
        worker: str = "only",
    ):
        self.shared = shelf is not None
        self._shelf = shelf or Shelf()
        self._clock, self._worker = clock, worker
        self._cache_ttl_ms, self._token_ttl_ms = round(cache_ttl_s * 1000), round(token_ttl_s * 1000)

    async def open(self) -> None:
        await self.beat()

    async def close(self) -> None:
        self._shelf.leases.pop(self._worker, None)

    async def publish(self, posts: Sequence[Post]) -> None:
        shelf, now_ms = self._shelf, self._clock()
        for post in posts:
            if post.token:
                shelf.tokens[post.tenant, post.token] = (now_ms + self._token_ttl_ms, post.record)
            for job in post.jobs:
                shelf.jobs.setdefault(self._worker, {})[job.job_id] = job
        _trim(shelf.tokens, TOKENS_MAX)

    async def token(self, tenant: str, token: str) -> bytes | None:
        until_ms, record = self._shelf.tokens.get((tenant, token), (0, b""))
        return record if until_ms > self._clock() else None

    async def outcomes(self, tenant: str, keys: Sequence[bytes]) -> list[Outcome]:
        return [self._outcome(tenant, key) for key in keys]

    def _outcome(self, tenant: str, key: bytes) -> Outcome:
        until_ms, outcome = self._shelf.outcomes.get((tenant, key), (0, Outcome()))
        return outcome if until_ms > self._clock() else Outcome()

    async def claim(self, tenant: str, keys: Sequence[bytes]) -> list[Claim]:
        shelf, claims = self._shelf, []
        for key in keys:
            text = self._outcome(tenant, key).text
            if text:
                claims.append(Claim(False, text))
                continue
            holder = shelf.claims.get((tenant, key))
            free = holder is None or holder == self._worker or shelf.leases.get(holder, 0) <= self._clock()
            if free:
                shelf.claims[tenant, key] = self._worker
            claims.append(Claim(free))
        return claims

    async def settle(self, tenant: str, job_id: str, outcomes: Sequence[tuple[bytes, Outcome]], *, done: bool) -> None:
        shelf, now_ms = self._shelf, self._clock()
        for key, outcome in outcomes:
            known = self._outcome(tenant, key)
            if outcome.text:
                kept, ttl_ms = msgspec.structs.replace(outcome, failed_ms=known.failed_ms), self._cache_ttl_ms
            elif known.text:
                kept = None
            else:
                kept, ttl_ms = outcome, self._token_ttl_ms
            if kept is not None:
                shelf.outcomes[tenant, key] = (now_ms + ttl_ms, kept)
                shelf.outcomes.move_to_end((tenant, key))
            if shelf.claims.get((tenant, key)) == self._worker:
                del shelf.claims[tenant, key]
        _trim(shelf.outcomes, OUTCOMES_MAX)
        if done:
            shelf.jobs.get(self._worker, {}).pop(job_id, None)

    async def beat(self) -> None:
        self._shelf.leases[self._worker] = self._clock() + round(LEASE_S * 1000)

    async def orphans(self, limit: int) -> list[PostedJob]:
        shelf, now_ms = self._shelf, self._clock()
        found: list[PostedJob] = []
        for worker, jobs in shelf.jobs.items():
            if worker == self._worker or shelf.leases.get(worker, 0) > now_ms:
                continue
            while jobs and len(found) < limit:
                _, job = jobs.popitem()
                if job.takeovers < TAKEOVERS_MAX:
                    found.append(msgspec.structs.replace(job, takeovers=job.takeovers + 1))
        mine = shelf.jobs.setdefault(self._worker, {})
        mine.update({job.job_id: job for job in found})
        return found

    async def reserve(self, amount: int, day_max: int, minute_max: int) -> str:
        day, minute = windows(self._clock())
        spend = self._shelf.spend
        for window, limit in ((day, day_max), (minute, minute_max)):
            if limit and spend.get(window, 0) + amount > limit:
                return ""
        for window in [window for window in spend if window not in (day, minute)]:
            del spend[window]
        for window in (day, minute):
            spend[window] = spend.get(window, 0) + amount
        return f"{day} {minute}"

    async def settle_spend(self, reservation: str, reserved: int, spent: int) -> None:
        spend = self._shelf.spend
        for window in reservation.split():
            if window in spend:
                spend[window] += spent - reserved

    def spent(self, window: str) -> int:
        return self._shelf.spend.get(window, 0)


def windows(now_ms: int) -> tuple[str, str]:
    """Names of the UTC day and the minute that hold a moment."""
    return f"d{now_ms // DAY_MS}", f"m{now_ms // MINUTE_MS}"


def _trim(
    kept: OrderedDict[tuple[str, str], tuple[int, bytes]] | OrderedDict[tuple[str, bytes], tuple[int, Outcome]],
    most: int,
) -> None:
    """The oldest go first."""
    while len(kept) > most:
        kept.popitem(last=False)
