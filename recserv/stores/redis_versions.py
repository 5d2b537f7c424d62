"""The versions of shoppers' states in Redis: of each session and profile the sixteen bytes of its head that change
with every event, and no more. They are its newest sequence and a time: after a failover that lost events the next ones
take their numbers, and whoever looked before and after would see nothing of it.

One script call reads them all, in a cluster one for each slot: a GETRANGE of its own for each record would be a reply
to wait for, thousands a second, behind which the reads of recommendations wait. The script writes nothing and comes
with its call, so no server has to know it. A record that is missing, shorter than a head or of another type is 0.

While a node of a cluster is down, what it has is not known and the rest is: a batch of shoppers has some of every node,
and otherwise all watches would be deaf for as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recserv.stores.base import StateVersion
from recserv.stores.packed import PROFILE_VERSION_AT, SESSION_VERSION_AT, VERSION_BYTES
from recserv.stores.redis_calls import read_keys
from recserv.stores.redis_faults import Fault
from recserv.stores.redis_router import Router
from recserv.types import ShopperKey

_SCRIPT = b"""
local found = {}
for number, key in ipairs(KEYS) do
  local at = tonumber(ARGV[number])
  local data = redis.pcall('GETRANGE', key, at, at + 15)
  found[number] = type(data) == 'string' and data or ''
end
return found"""


async def read_versions(router: Router, tenant: str, keys: Sequence[ShopperKey]) -> list[StateVersion]:
    """As StateStore.versions. Raises Fault. A record that several keys share is read once."""
    records = [_records(tenant, key) for key in keys]
    wanted: dict[int, dict[bytes, int]] = {}
    for slot, name, at in (record for of_key in records for record in of_key):
        wanted.setdefault(slot if router.by_slot else 0, {})[name] = at
    begun = []
    for slot, places in wanted.items():
        command: tuple[bytes | str | int, ...] = ("EVAL", _SCRIPT, len(places), *places, *places.values())
        begun.append((slot, places, router.begin(slot, command, write=False)))
    found: dict[bytes, int] = {}
    fault: Fault | None = None
    for slot, places, call in begun:
        try:
            found.update(zip(places, _numbers(await router.finish(slot, call, write=False), len(places)), strict=True))
        except Fault as of_slot:
            fault = of_slot
    if fault is not None and not found:
        raise fault
    return [_version(found, of_key) for of_key in records]


def _version(found: Mapping[bytes, int], records: Sequence[tuple[int, bytes, int]]) -> StateVersion:
    """Empty if one of its records is not known."""
    names = [name for _, name, _ in records]
    return tuple([found[name] for name in names]) if all(name in found for name in names) else ()


def _records(tenant: str, key: ShopperKey) -> list[tuple[int, bytes, int]]:
    """Slot, name and where to read, of a session and its profile, then of those of its user."""
    found = []
    for partition, names in read_keys(tenant, key.session_id, key.user_id).items():
        places = (SESSION_VERSION_AT, PROFILE_VERSION_AT) * (len(names) // 2)
        found += [(partition.slot, name, at) for name, at in zip(names, places, strict=True)]
    return found


def _numbers(answer: object, count: int) -> list[int]:
    if not isinstance(answer, list) or len(answer) != count or not all(isinstance(data, bytes) for data in answer):
        raise Fault("server_error", "the script of the versions was answered with something other than a list of bytes")
    return [int.from_bytes(data, "little") if len(data) == VERSION_BYTES else 0 for data in answer]
