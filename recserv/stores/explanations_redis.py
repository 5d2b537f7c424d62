"""The explanation store in Redis: what any number of workers share.

    {explain}:t:TENANT:TOKEN    record of a token
    {explain}:o:TENANT:KEY      hash, outcome of a key: t text, r ready_ms, f failed_ms, c cause
    {explain}:c:TENANT:KEY      the worker that writes the text
    {explain}:w                 sorted set, worker -> end of its lease (ms)
    {explain}:j:WORKER          hash, job id -> PostedJob (MessagePack)
    {explain}:dN {explain}:mN   nanodollars of a UTC day, of a minute

One hash tag: what belongs together is changed in one step (explanations.lua), on Redis Cluster too. Times are those of
the server, so that workers whose clocks differ agree on leases and budgets. KEY is hexadecimal.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from binascii import crc_hqx
from collections.abc import Sequence
from importlib import resources

import msgspec

from recserv.errors import StoreUnavailable
from recserv.stores.explanations_base import LEASE_S, TAKEOVERS_MAX, Claim, Outcome, Post, PostedJob
from recserv.stores.redis_keys import SLOTS
from recserv.stores.redis_link import Argument
from recserv.stores.redis_router import RedisTimeouts, Router
from recserv.stores.redis_url import parse_target

_log = logging.getLogger(__name__)

TAG = "explain"
PREFIX = f"{{{TAG}}}:"
SLOT = crc_hqx(TAG.encode(), 0) % SLOTS
SCRIPT = resources.files("recserv.stores").joinpath("explanations.lua").read_bytes()
_SHA = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest()
CLAIM_TTL_S = 600.0
JOBS_TTL_S = 3600.0

_encode_job = msgspec.msgpack.Encoder().encode
_decode_job = msgspec.msgpack.Decoder(PostedJob).decode


class RedisExplanationStore:
    """An ExplanationStore. `worker` names this process; it must not be the name of one before it."""

    shared = True

    def __init__(
        self,
        target: str,
        timeouts: RedisTimeouts,
        *,
        cache_ttl_s: float = 86400.0,
        token_ttl_s: float = 600.0,
        lease_s: float = LEASE_S,
        worker: str = "",
    ):
        self.worker = worker or secrets.token_hex(8)
        self._router = Router(parse_target(target), timeouts, (SCRIPT,))
        self._cache_ttl_ms, self._token_ttl_ms = round(cache_ttl_s * 1000), round(token_ttl_s * 1000)
        self._lease_ms = round(lease_s * 1000)
        self._opened = self._closed = False
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """A server that cannot be reached is looked for again by the next call."""
        try:
            await self._ready()
            await self.beat()
        except StoreUnavailable as error:
            _log.warning("explanations are not shared for now: %s", error)

    async def _ready(self) -> None:
        if self._opened:
            return
        if self._closed:
            raise StoreUnavailable("the explanation store is closed")
        async with self._opening:
            if not self._opened:
                await self._router.open()
                self._opened = True

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if self._opened:
                await self._step("beat", self.worker, 0, round(JOBS_TTL_S * 1000))
        except StoreUnavailable as error:
            _log.warning("the lease ends by itself: %s", error)
        await self._router.close()

    async def publish(self, posts: Sequence[Post]) -> None:
        commands: list[tuple[Argument, ...]] = []
        for post in posts:
            if post.token:
                commands.append(("SET", _token(post.tenant, post.token), post.record, "PX", self._token_ttl_ms))
            for job in post.jobs:
                commands.append(("HSET", f"{PREFIX}j:{self.worker}", job.job_id, _encode_job(job)))
        await self._all(commands, write=True)

    async def token(self, tenant: str, token: str) -> bytes | None:
        [record] = await self._all([("GET", _token(tenant, token))], write=False)
        return record if isinstance(record, bytes) else None

    async def outcomes(self, tenant: str, keys: Sequence[bytes]) -> list[Outcome]:
        prefix = f"{PREFIX}o:{tenant}:"
        commands: list[tuple[Argument, ...]] = [("HMGET", prefix + key.hex(), "t", "r", "f", "c") for key in keys]
        return [_outcome(answer) for answer in await self._all(commands, write=False)]

    async def claim(self, tenant: str, keys: Sequence[bytes]) -> list[Claim]:
        ttl_ms = round(CLAIM_TTL_S * 1000)
        answers = await self._step("claim", self.worker, ttl_ms, tenant, *[key.hex() for key in keys])
        if not isinstance(answers, list) or len(answers) != len(keys):
            raise StoreUnavailable("Redis answered a claim with something else than its texts")
        return [
            Claim(False, answer.decode("utf-8", "replace")) if isinstance(answer, bytes) else Claim(answer == 1)
            for answer in answers
        ]

    async def settle(self, tenant: str, job_id: str, outcomes: Sequence[tuple[bytes, Outcome]], *, done: bool) -> None:
        arguments: list[Argument] = [
            *(self.worker, job_id, int(done), self._cache_ttl_ms, self._token_ttl_ms, tenant),
        ]
        for key, outcome in outcomes:
            arguments += [key.hex(), outcome.text.encode(), outcome.ready_ms, outcome.failed_ms, outcome.cause]
        await self._step("settle", *arguments)

    async def beat(self) -> None:
        await self._step("beat", self.worker, self._lease_ms, round(JOBS_TTL_S * 1000))

    async def orphans(self, limit: int) -> list[PostedJob]:
        answers = await self._step("orphans", self.worker, limit, round(JOBS_TTL_S * 1000))
        found, again = [], []
        for raw in answers if isinstance(answers, list) else ():
            try:
                job = _decode_job(raw)
            except msgspec.MsgspecError:
                _log.warning("a job of another version is left to its end")
                continue
            taken = msgspec.structs.replace(job, takeovers=job.takeovers + 1)
            if taken.takeovers <= TAKEOVERS_MAX:
                found.append(taken)
                again.append(Post(job.tenant, "", b"", (taken,)))
            else:
                await self.settle(job.tenant, job.job_id, (), done=True)
        if again:
            # The count of takeovers must outlive us.
            await self.publish(again)
        return found

    async def reserve(self, amount: int, day_max: int, minute_max: int) -> str:
        windows = await self._step("reserve", amount, day_max, minute_max)
        return windows.decode() if isinstance(windows, bytes) else ""

    async def settle_spend(self, reservation: str, reserved: int, spent: int) -> None:
        if spent != reserved:
            await self._step("spend", spent - reserved, *reservation.split())

    async def _step(self, what: str, *arguments: Argument) -> object:
        [answer] = await self._all([("EVALSHA", _SHA, 1, PREFIX, what, *arguments)], write=True)
        return answer

    async def _all(self, commands: Sequence[tuple[Argument, ...]], *, write: bool) -> list[object]:
        """The answers, in order. Raises StoreUnavailable for the first that failed, after all are settled."""
        if not self._opened:
            await self._ready()
        calls = [self._router.begin(SLOT, command, write=write) for command in commands]
        answers = await asyncio.gather(
            *[self._router.finish(SLOT, call, write=write) for call in calls], return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers


def _token(tenant: str, token: str) -> str:
    return f"{PREFIX}t:{tenant}:{token}"


def _outcome(answer: object) -> Outcome:
    if not isinstance(answer, list) or len(answer) != 4:
        raise StoreUnavailable("Redis answered an outcome with something else")
    text, ready, failed, cause = answer
    return Outcome((text or b"").decode("utf-8", "replace"), int(ready or 0), int(failed or 0), int(cause or 0))
