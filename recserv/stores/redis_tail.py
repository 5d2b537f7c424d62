"""One consumer of a group over a tenant's event log, for services beside the server: at least once, in each partition's
order, shared with the other consumers of the group.

    read         what nobody of the group was given yet      XREADGROUP   one a partition, all in one batch a node
    claim_idle   what a consumer took and did not finish     XAUTOCLAIM
    acknowledge  done with                                   XACK

An entry that was read and not acknowledged, because its consumer died, is given to whoever claims it once it has been
idle for long enough; so a consumer must tolerate seeing an entry twice (with the same `sequence`). A partition's
stream exists once it has an event, until the retention of the log ends it; the group is created on it, from its start,
when it is first seen. A group that lags further behind than the retention misses what was trimmed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from recserv.stores.packed import Undecodable
from recserv.stores.redis_faults import Fault
from recserv.stores.redis_keys import Partition, partitions
from recserv.stores.redis_link import Argument, Call
from recserv.stores.redis_log import RedisLogEntry, decode_entry, fields_of
from recserv.stores.redis_router import RedisTimeouts, Router
from recserv.stores.redis_url import parse_target

ENTRIES_A_PARTITION = 32
_ANSWERS = frozenset({"nogroup", "busygroup", "server_error"})
"""Causes of faults that say something of one stream only."""


class TailedEntry(msgspec.Struct, frozen=True):
    partition: Partition
    entry: RedisLogEntry


class RedisLogTail:
    """Opened, used and closed on one event loop. Every method raises StoreUnavailable.

    `timeouts`: every batch counts as a write. `undecodable` counts entries that are none of ours: they are acknowledged
    and left out.
    """

    def __init__(self, url: str, *, tenant: str, group: str, consumer: str, timeouts: RedisTimeouts):
        self._partitions = partitions(tenant)
        self._group, self._consumer = group, consumer
        self._router = Router(parse_target(url), timeouts, ())
        self.undecodable = 0

    async def open(self) -> None:
        await self._router.open()

    async def close(self) -> None:
        await self._router.close()

    async def read(self) -> list[TailedEntry]:
        """New entries, at most ENTRIES_A_PARTITION of each; empty if there are none now."""
        read: tuple[Argument, ...] = ("XREADGROUP", "GROUP", self._group, self._consumer)
        read += ("COUNT", ENTRIES_A_PARTITION, "STREAMS")
        answers = await self._ask([(p, (*read, p.log, ">")) for p in self._partitions])
        missing = [p for p, answer in answers if isinstance(answer, Fault) and answer.cause == "nogroup"]
        if missing:
            made = await self._ask([(p, ("XGROUP", "CREATE", p.log, self._group, "0")) for p in missing])
            # Another consumer may have been faster. On a stream that is not there it is an error: nothing to read.
            there = [p for p, answer in made if not isinstance(answer, Fault) or answer.cause == "busygroup"]
            answers += await self._ask([(p, (*read, p.log, ">")) for p in there])
        found: list[TailedEntry] = []
        for partition, answer in answers:
            if isinstance(answer, Fault):
                if answer.cause != "nogroup":
                    raise answer
            elif isinstance(answer, list):
                found += await self._decoded(partition, answer[0][1])
        return found

    async def claim_idle(self, idle_ms: int) -> list[TailedEntry]:
        """Entries that somebody was given so long ago or longer and has not acknowledged; they are this one's now."""
        claim = ("XAUTOCLAIM", self._group, self._consumer, idle_ms, "0-0", "COUNT", ENTRIES_A_PARTITION)
        answers = await self._ask([(p, (claim[0], p.log, *claim[1:])) for p in self._partitions])
        found: list[TailedEntry] = []
        for partition, answer in answers:
            if isinstance(answer, Fault):
                if answer.cause != "nogroup":
                    raise answer
            elif isinstance(answer, list):
                found += await self._decoded(partition, answer[1])
        return found

    async def acknowledge(self, entries: Iterable[TailedEntry]) -> None:
        """Acknowledged entries are not delivered to this group again."""
        by_partition: dict[Partition, list[bytes]] = {}
        for tailed in entries:
            by_partition.setdefault(tailed.partition, []).append(tailed.entry.entry_id.encode())
        await self._acknowledge(by_partition)

    async def _acknowledge(self, by_partition: dict[Partition, list[bytes]]) -> None:
        answers = await self._ask([(p, ("XACK", p.log, self._group, *ids)) for p, ids in by_partition.items()])
        for _, answer in answers:
            if isinstance(answer, Fault):
                raise answer

    async def _decoded(self, partition: Partition, raw: Sequence[Sequence[object] | None]) -> list[TailedEntry]:
        found, foreign = [], []
        for held in raw:
            if held is None:
                # Trimmed since it was given out: Redis 6.2 says so in this way, later ones leave it out.
                continue
            entry_id, fields = held
            assert isinstance(entry_id, bytes)
            assert isinstance(fields, list)
            try:
                found.append(TailedEntry(partition, decode_entry(entry_id, fields_of(fields))))
            except Undecodable:
                self.undecodable += 1
                foreign.append(entry_id)
        if foreign:
            await self._acknowledge({partition: foreign})
        return found

    async def _ask(self, commands: Iterable[tuple[Partition, tuple[Argument, ...]]]) -> list[tuple[Partition, object]]:
        """Each partition with the server's answer, or with the error that it answered."""
        begun: list[tuple[Partition, Call]] = [
            (partition, self._router.begin(partition.slot, args, write=True)) for partition, args in commands
        ]
        answers: list[tuple[Partition, object]] = []
        for partition, call in begun:
            try:
                answers.append((partition, await self._router.finish(partition.slot, call, write=True)))
            except Fault as fault:
                if fault.cause not in _ANSWERS:
                    raise
                answers.append((partition, fault))
        return answers
