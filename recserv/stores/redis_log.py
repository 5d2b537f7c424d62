"""The event log in Redis: a stream for each partition of a tenant, `{TENANT:pNNN}:log`.

An entry has the fields `seq` (sequence in the partition, decimal), `at` (arrival, ms since the epoch, decimal) and
`body`: MessagePack of the array [event, body hash, event time in ms], the event a map with the fields of `types.Event`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from recserv.stores.base import AppendEvent
from recserv.stores.decide import LogBody
from recserv.stores.packed import Undecodable

_BODY = msgspec.msgpack.Decoder(LogBody)


class RedisLogEntry(msgspec.Struct, frozen=True):
    """`entry_id`: of the stream. `sequence` grows within the partition."""

    entry_id: str
    append: AppendEvent
    sequence: int


def decode_entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> RedisLogEntry:
    """Raises Undecodable."""
    try:
        body = _BODY.decode(fields[b"body"])
        sequence, arrival_ms = int(fields[b"seq"]), int(fields[b"at"])
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise Undecodable(f"a log entry that is not ours: {type(error).__name__}") from error
    append = AppendEvent(body.event, body.body_hash, arrival_ms, body.event_time_ms)
    return RedisLogEntry(entry_id.decode("ascii", "replace"), append, sequence)


def fields_of(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Of an entry as the protocol has it: names and values in turn."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
