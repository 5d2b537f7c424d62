"""The versions of shoppers' states in Redis: of each session and profile the eight bytes of its head that change with
every event, and no more.

GETRANGE is a read like any other: it needs no script, is answered by a server that has no memory left for writes, and
follows redirects and failovers as MGET does. A record that is missing, or shorter than a head, is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from recserv.stores.base import StateVersion
from recserv.stores.packed import PROFILE_SEQUENCE_AT, SESSION_VERSION_AT, VERSION_BYTES
from recserv.stores.redis_calls import read_keys
from recserv.stores.redis_faults import Fault
from recserv.stores.redis_link import Call
from recserv.stores.redis_router import Router
from recserv.types import ShopperKey


async def read_versions(router: Router, tenant: str, keys: Sequence[ShopperKey]) -> list[StateVersion]:
    """As StateStore.versions. Raises Fault. A record that several keys share is read once."""
    records = [_records(tenant, key) for key in keys]
    begun: dict[bytes, tuple[int, Call]] = {}
    for slot, name, at in (record for of_key in records for record in of_key):
        if name not in begun:
            command = ("GETRANGE", name, at, at + VERSION_BYTES - 1)
            begun[name] = slot, router.begin(slot, command, write=False)
    found = {name: _number(await router.finish(slot, call, write=False)) for name, (slot, call) in begun.items()}
    return [tuple([found[name] for _, name, _ in of_key]) for of_key in records]


def _records(tenant: str, key: ShopperKey) -> list[tuple[int, bytes, int]]:
    """Slot, name and where to read, of a session and its profile, then of those of its user."""
    found = []
    for partition, names in read_keys(tenant, key.session_id, key.user_id).items():
        places = (SESSION_VERSION_AT, PROFILE_SEQUENCE_AT) * (len(names) // 2)
        found += [(partition.slot, name, at) for name, at in zip(names, places, strict=True)]
    return found


def _number(answer: object) -> int:
    if not isinstance(answer, bytes):
        raise Fault("server_error", "GETRANGE was answered with something else than bytes")
    return int.from_bytes(answer, "little") if len(answer) == VERSION_BYTES else 0
