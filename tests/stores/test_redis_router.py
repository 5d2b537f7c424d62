"""A call that the node it was sent to refuses: it goes to the one that has the slot by now, if there is another."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from recserv.stores.redis_faults import Fault
from recserv.stores.redis_link import Call
from recserv.stores.redis_router import Router
from recserv.stores.redis_url import Address, parse_target
from tests.stores.redis_support import PATIENT

REPLICA, PRIMARY = Address("replica", 1), Address("primary", 2)


class Topology:
    """One owner of every slot, which the next refresh replaces."""

    def __init__(self, owner: Address | None, after: Address | None):
        self.owner, self._after = owner, after
        self.refreshes = 0

    async def refresh(self) -> None:
        self.refreshes += 1
        self.owner = self._after

    def address_of(self, slot: int) -> Address:
        if self.owner is None:
            raise Fault("clusterdown", "nobody has it")
        return self.owner

    def moved(self, slot: int, address: Address) -> None:
        raise NotImplementedError

    def addresses(self) -> list[Address]:
        return [] if self.owner is None else [self.owner]

    async def close(self) -> None: ...


class Node:
    """In a lane's place: settles at once."""

    def __init__(self, address: Address):
        self._address = address

    def submit(self, call: Call) -> None:
        if self._address == PRIMARY:
            call.settle(b"OK")
        else:
            call.fail(Fault("readonly", "You can't write against a read only replica."))

    async def close(self) -> None: ...


@pytest.fixture
async def router() -> AsyncIterator[Router]:
    router = Router(parse_target("redis://127.0.0.1:1"), PATIENT, (), monotonic=lambda: 0.0)
    router._lane = lambda address, write: Node(address)  # type: ignore[assignment, method-assign, return-value]
    yield router
    await router.close()


async def test_what_a_replica_refuses_is_answered_by_its_primary(router: Router) -> None:
    router.topology = topology = Topology(REPLICA, PRIMARY)
    assert await router.finish(7, router.begin(7, ("SET",), write=True), write=True) == b"OK"
    assert topology.refreshes == 1


async def test_a_call_that_waited_while_another_noticed_the_failover_is_answered_by_the_primary(router: Router) -> None:
    router.topology = topology = Topology(REPLICA, PRIMARY)
    begun = [router.begin(7, ("SET",), write=True) for _ in range(3)]
    assert [await router.finish(7, call, write=True) for call in begun] == [b"OK"] * 3
    assert topology.refreshes == 1


async def test_a_slot_without_an_owner_is_asked_for(router: Router) -> None:
    router.topology = topology = Topology(None, PRIMARY)
    assert await router.finish(7, router.begin(7, ("GET",), write=False), write=False) == b"OK"
    assert topology.refreshes == 1


@pytest.mark.parametrize("owner", [REPLICA, None])
async def test_a_slot_that_nobody_else_has_is_asked_for_once(owner: Address | None, router: Router) -> None:
    router.topology = topology = Topology(owner, owner)
    for _ in range(2):
        with pytest.raises(Fault):
            await router.finish(7, router.begin(7, ("SET",), write=True), write=True)
    assert topology.refreshes == 1
