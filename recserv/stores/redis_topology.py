"""Which server owns which slot: a single server, the primary that Sentinel names, or the primaries of a cluster.

refresh            -> asks again, and raises Fault if nobody knows
address_of(slot)   -> who has it, as of the last refresh or redirect
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from redis import exceptions as redis_errors
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff

from recserv.stores.redis_faults import Fault, fault_of_connection
from recserv.stores.redis_keys import SLOTS
from recserv.stores.redis_link import LinkTimeouts, RedisLink, ask
from recserv.stores.redis_url import Address, Mode, RedisTarget


class Topology(Protocol):
    async def refresh(self) -> None:
        """Raises Fault, and then keeps what was known."""

    def address_of(self, slot: int) -> Address:
        """Raises Fault if nobody has the slot."""

    def moved(self, slot: int, address: Address) -> None:
        """The cluster said so."""

    def addresses(self) -> list[Address]:
        """Of all primaries known."""

    async def close(self) -> None: ...


def make_topology(target: RedisTarget, timeouts: LinkTimeouts) -> Topology:
    if target.mode == Mode.SENTINEL:
        return SentinelTopology(target, timeouts)
    if target.mode == Mode.CLUSTER:
        return ClusterTopology(target, timeouts)
    return SingleTopology(target.addresses[0])


class SingleTopology:
    def __init__(self, address: Address):
        self._address = address

    async def refresh(self) -> None:
        return

    def address_of(self, slot: int) -> Address:
        return self._address

    def moved(self, slot: int, address: Address) -> None:
        raise Fault("clusterdown", f"{self._address} is a node of a cluster: use redis+cluster://")

    def addresses(self) -> list[Address]:
        return [self._address]

    async def close(self) -> None:
        return


class SentinelTopology:
    def __init__(self, target: RedisTarget, timeouts: LinkTimeouts):
        self._service = target.service
        options: dict[str, object] = {
            "socket_timeout": timeouts.connect_s,
            "socket_connect_timeout": timeouts.connect_s,
            "retry": Retry(NoBackoff(), 0),
            "username": target.sentinel_user or None,
            "password": target.sentinel_password or None,
        }
        if target.tls:
            options |= {"ssl": True} | ({"ssl_ca_certs": target.ca_certs} if target.ca_certs else {})
        sentinels = [(address.host, address.port) for address in target.addresses]
        self._sentinel = Sentinel(sentinels, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        self._primary: Address | None = None

    async def refresh(self) -> None:
        try:
            host, port = await self._sentinel.discover_master(self._service)
        except MasterNotFoundError as error:
            raise Fault("no_primary", f"no sentinel knows a primary of {self._service!r}") from error
        except (redis_errors.RedisError, OSError) as error:
            raise Fault("no_primary", f"the sentinels do not answer: {type(error).__name__}") from error
        self._primary = Address(str(host), int(port))

    def address_of(self, slot: int) -> Address:
        if self._primary is None:
            raise Fault("no_primary", "the sentinels have named no primary yet")
        return self._primary

    def moved(self, slot: int, address: Address) -> None:
        raise Fault("clusterdown", "the primary is a node of a cluster: use redis+cluster://")

    def addresses(self) -> list[Address]:
        return [] if self._primary is None else [self._primary]

    async def close(self) -> None:
        for client in self._sentinel.sentinels:
            await client.aclose()


class ClusterTopology:
    def __init__(self, target: RedisTarget, timeouts: LinkTimeouts):
        self._target = target
        self._timeouts = timeouts
        self._owners: list[Address | None] = [None] * SLOTS

    async def refresh(self) -> None:
        """Asks the primaries known and the addresses given, in turn, until one answers."""
        problems = []
        for address in dict.fromkeys([*self.addresses(), *self._target.addresses]):
            link = RedisLink(self._target, address, self._timeouts)
            try:
                owners = _owners(await ask(link, "CLUSTER", "SLOTS"), address)
            except Fault as fault:
                problems.append(fault)
            else:
                self._owners = owners
                return
            finally:
                await link.close()
        raise problems[-1] if problems else Fault("clusterdown", "no address of the cluster is known")

    def address_of(self, slot: int) -> Address:
        owner = self._owners[slot]
        if owner is None:
            raise Fault("clusterdown", f"no node of the cluster has slot {slot}")
        return owner

    def moved(self, slot: int, address: Address) -> None:
        self._owners[slot] = address

    def addresses(self) -> list[Address]:
        return sorted({owner for owner in self._owners if owner is not None})

    async def close(self) -> None:
        return


def _owners(answer: object, asked: Address) -> list[Address | None]:
    """From the answer of CLUSTER SLOTS, [first, last, [host, port, ...], replica...]*. An empty host: the one asked."""
    owners: list[Address | None] = [None] * SLOTS
    try:
        assert isinstance(answer, Iterable)
        for first, last, primary, *_ in answer:
            host = (primary[0] or b"").decode()
            owner = Address(host if host not in ("", "?") else asked.host, int(primary[1]))
            owners[int(first) : int(last) + 1] = [owner] * (int(last) + 1 - int(first))
    except (AssertionError, ValueError, TypeError, IndexError) as error:
        raise fault_of_connection(error, asked, connecting=False) from error
    return owners
