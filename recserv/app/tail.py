"""The event log as lines: what `recserv tail` prints, for a look at it and as an example of a consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from recserv.config import Settings
from recserv.stores.redis_router import RedisTimeouts
from recserv.stores.redis_tail import RedisLogTail, TailedEntry
from recserv.types import Event

BATCH_TIMEOUT_MS = 5_000
"""The default: a batch asks every partition at once, for 8,192 events at most, and nobody waits for it."""
CLAIM_IDLE_MS = 60_000
PAUSE_S = 0.25


class TailedLine(msgspec.Struct, frozen=True):
    """One line of JSON. `sequence` grows within the partition; times in ms since the epoch."""

    partition: str
    sequence: int
    arrival_ms: int
    event_time_ms: int
    event: Event


def tail_timeouts(connect_ms: int | None, batch_ms: int | None) -> RedisTimeouts:
    """None: the default."""
    usual_ms: int = Settings(model="").redis_connect_timeout_ms
    batch_s = (batch_ms or BATCH_TIMEOUT_MS) / 1000
    return RedisTimeouts(connect_s=(connect_ms or usual_ms) / 1000, read_s=batch_s, write_s=batch_s)


async def tail(
    url: str,
    tenant: str,
    group: str,
    consumer: str,
    emit: Callable[[bytes], None],
    *,
    once: bool,
    timeouts: RedisTimeouts,
) -> None:
    """Emits the events that the group has not seen, in the order of each partition; acknowledges them afterwards.

    `once`: until there are none, else until it is cancelled. Raises StoreUnavailable, UsageError.
    """
    log = RedisLogTail(url, tenant=tenant, group=group, consumer=consumer, timeouts=timeouts)
    try:
        await log.open()
        while True:
            # Events that another consumer of the group took and did not acknowledge come first.
            found = await log.claim_idle(CLAIM_IDLE_MS) + await log.read()
            _emit_all(found, emit)
            await log.acknowledge(found)
            if not found:
                if once:
                    return
                await asyncio.sleep(PAUSE_S)
    finally:
        await log.close()


def _emit_all(found: Sequence[TailedEntry], emit: Callable[[bytes], None]) -> None:
    for tailed in found:
        append = tailed.entry.append
        partition = tailed.partition.prefix.decode().strip("{}:")
        line = TailedLine(partition, tailed.entry.sequence, append.arrival_ms, append.event_time_ms, append.event)
        emit(msgspec.json.encode(line))
