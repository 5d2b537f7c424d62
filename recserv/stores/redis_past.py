"""The past of users into Redis, beside whatever servers write there: read, fold, and one script a user that writes
profile and history if nobody has changed them meanwhile.

The folding is done here and not in the script, so nobody waits for it: a script of ten thousand events takes as long as
one of a single event. A user who is shopping at this moment costs another round.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import struct
from collections.abc import Sequence

from recserv.errors import StoreUnavailable
from recserv.stores.hooks import StoreHooks
from recserv.stores.packed import PROFILE_HEAD, Undecodable, pack_profile, unpack_profile
from recserv.stores.past import PastResult, fold
from recserv.stores.redis_calls import RedisRetention, script
from recserv.stores.redis_keys import partition_of, user_name
from recserv.stores.redis_router import WRITE_BATCH_EVENTS_MAX, Router
from recserv.stores.state import EMPTY_PROFILE
from recserv.types import Profile, UserPast

_log = logging.getLogger(__name__)

PAST_SCRIPT = script("redis_past")
_PAST_SHA = hashlib.sha1(PAST_SCRIPT, usedforsecurity=False).hexdigest()
_SPANS = struct.Struct("<qqI")
ROUNDS_MAX = 16
PAUSE_S, PAUSE_S_MAX = 0.001, 0.05
"""After a round in which the user was faster, doubled each time: nobody shops at twenty events a second for long."""
_TTL_MS_MIN = 60_000
_WEIGHT = WRITE_BATCH_EVENTS_MAX // 4
"""A few users a batch: each may be hundreds of kilobytes, and a batch has so much time as a batch of events."""


class RedisPasts:
    """`import_pasts` of a Redis store."""

    def __init__(self, router: Router, retention: RedisRetention, hooks: StoreHooks):
        self._router, self._retention, self._hooks = router, retention, hooks

    async def write(
        self, tenant: str, pasts: Sequence[UserPast], now_ms: int, *, only_remember: bool
    ) -> list[PastResult]:
        """Raises StoreUnavailable once every write that was begun has ended."""
        writes = [self._user(tenant, past, now_ms, only_remember) for past in pasts]
        done = await asyncio.gather(*writes, return_exceptions=True)
        results = []
        for result in done:
            if isinstance(result, BaseException):
                raise result
            results.append(result)
        return results

    async def _user(self, tenant: str, past: UserPast, now_ms: int, only_remember: bool) -> PastResult:
        for round_number in range(ROUNDS_MAX):
            result = await self._once(tenant, past, now_ms, only_remember)
            if result is not None:
                return result
            await asyncio.sleep(min(PAUSE_S * 2**round_number, PAUSE_S_MAX))
        raise StoreUnavailable("the profile of a user changes faster than its past can be added")

    async def _once(self, tenant: str, past: UserPast, now_ms: int, only_remember: bool) -> PastResult | None:
        """None: the profile was written between reading and writing."""
        partition, name = partition_of(tenant, past.user_id), user_name(past.user_id)
        profile_key, history_key = partition.profile(name), partition.history(name)
        reading = self._router.begin(partition.slot, ("MGET", profile_key, history_key), write=False)
        answer = await self._router.finish(partition.slot, reading, write=False)
        if not isinstance(answer, list) or len(answer) != 2:
            raise StoreUnavailable("Redis answered MGET with something other than values")
        data, history = answer[0] or b"", answer[1] or b""
        before = self._profile(data)
        found = fold(history, past, now_ms - self._retention.profile_ms)
        if not found.marks:
            return found.result
        after = found.profile(before, before.sequence + 1)
        # As long as it would be kept had it been written then; a live event since then counts as it did.
        ttl_ms = max(after.updated_ms + self._retention.profile_ms - now_ms, _TTL_MS_MIN)
        spans = _SPANS.pack(ttl_ms, self._retention.head_ms, len(history))
        packed = b"" if only_remember else pack_profile(after)
        arguments = (spans, data[: PROFILE_HEAD.size], packed, found.marks)
        keys = (partition.head, profile_key, history_key)
        call = ("EVALSHA", _PAST_SHA, len(keys), *keys, *arguments)
        writing = self._router.begin(partition.slot, call, write=True, weight=_WEIGHT)
        written = await self._router.finish(partition.slot, writing, write=True)
        if not isinstance(written, list) or len(written) != 2:
            raise StoreUnavailable("Redis answered a script with something other than numbers")
        if written[1]:
            self._hooks.on_undecodable("heads", written[1])
        return found.result if written[0] else None

    def _profile(self, data: bytes) -> Profile:
        """What cannot be read counts as nothing stored, as it does for a live event."""
        if not data:
            return EMPTY_PROFILE
        try:
            return unpack_profile(data)
        except Undecodable as error:
            _log.error("Redis holds a value that cannot be decoded: %s", error)
            self._hooks.on_undecodable("profiles", 1)
            return EMPTY_PROFILE
