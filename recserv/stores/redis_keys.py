"""The layout of keys in Redis.

    {TENANT:pNNN}:head           sequence of the partition's newest event or change of a profile u64, when the time to
                                 live of the log was set last (ms) i64, accepted events of type 1, 2, ... 9 u64 each
    {TENANT:pNNN}:log            stream: seq, at (arrival, ms), body (MessagePack of decide.LogBody)
    {TENANT:pNNN}:s:KEY          live session                     packed.py
    {TENANT:pNNN}:p:KEY          profile                          packed.py
    {TENANT:pNNN}:h:KEY          marks of the events that were imported into the profile, MARK_BYTES each; past.py
    {TENANT:pNNN}:i:DIGEST       an event id in use: body hash (16 bytes), sequence u64, arrival i64,
                                 u8 = 1 if its profile is left to the second script
    {TENANT:pNNN}:a:DIGEST       the event was applied to the profile in this partition: its sequence in its own
    {recserv}:token-key          32 random bytes that consistency tokens are made with; never expires

NNN = CRC16(session id, else user id) mod 256. KEY = `s` and the session id, or `u` and the user id. DIGEST is
keys.event_digest in base64url. What stands in braces is what Redis Cluster hashes, so a partition is in one place. A
session's profile before its user is known lies with the session, a user's profile in the partition of the user id. In
TENANT, braces, colons and % are percent-encoded.
"""

from __future__ import annotations

from binascii import b2a_base64, crc_hqx
from functools import lru_cache

import msgspec

from recserv.stores.keys import SESSION, USER

PARTITIONS = 256
SLOTS = 16_384
_TENANTS_CACHED = 1024 * PARTITIONS
_FOR_URLS = bytes.maketrans(b"+/", b"-_")
_QUOTED = str.maketrans({character: f"%{ord(character):02X}" for character in "{}:%"})


class Partition(msgspec.Struct, frozen=True):
    """`slot`: of Redis Cluster."""

    prefix: bytes
    slot: int

    @property
    def head(self) -> bytes:
        return self.prefix + b"head"

    @property
    def log(self) -> bytes:
        return self.prefix + b"log"

    def session(self, name: bytes) -> bytes:
        return self.prefix + b"s:" + name

    def profile(self, name: bytes) -> bytes:
        return self.prefix + b"p:" + name

    def history(self, name: bytes) -> bytes:
        return self.prefix + b"h:" + name

    def event_id(self, digest: bytes) -> bytes:
        return self.prefix + b"i:" + _text(digest)

    def applied(self, digest: bytes) -> bytes:
        return self.prefix + b"a:" + _text(digest)


def _text(digest: bytes) -> bytes:
    """Without padding: keys are for people and tools, too."""
    return b2a_base64(digest, newline=False).translate(_FOR_URLS, b"=")


def encoded(text: str) -> bytes:
    """UTF-8. Text that has none is given bytes that no stored name has: nothing is ever found under it."""
    return text.encode("utf-8", "surrogatepass")


def session_name(session_id: str) -> bytes:
    return encoded(SESSION + session_id)


def user_name(user_id: str) -> bytes:
    return encoded(USER + user_id)


def partition_of(tenant: str, owner_id: str) -> Partition:
    """The partition of a session id or of a user id."""
    return partition(tenant, crc_hqx(encoded(owner_id), 0) % PARTITIONS)


@lru_cache(maxsize=_TENANTS_CACHED)
def partition(tenant: str, number: int) -> Partition:
    tag = encoded(f"{tenant.translate(_QUOTED)}:p{number:03d}")
    return Partition(b"{" + tag + b"}:", crc_hqx(tag, 0) % SLOTS)


def partitions(tenant: str) -> list[Partition]:
    return [partition(tenant, number) for number in range(PARTITIONS)]
