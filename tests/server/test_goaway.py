"""A server that ends sends its clients elsewhere and loses none of their calls."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest

from recserv.server import assembly
from recserv.server.goaway import FRAME, LITTLE_BYTES, Farewell
from tests.patience import HANG_GUARD_S, eventually
from tests.server.harness import SERVICE, Service


@contextmanager
def connected() -> Iterator[tuple[int, socket.socket, socket.socket]]:
    """The port of a listening socket, and both ends of a connection to it: the client's, the server's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
        listening.accept()[0] as accepted,
    ):
        client.settimeout(HANG_GUARD_S)
        yield listening.getsockname()[1], client, accepted


def nothing_to_read(end: socket.socket) -> bool:
    end.setblocking(False)
    try:
        return not end.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        end.settimeout(HANG_GUARD_S)


def test_a_connection_is_told_once_at_the_second_look() -> None:
    with connected() as (port, client, _):
        farewell = Farewell(port)
        assert farewell.look() == 1
        assert nothing_to_read(client)
        assert [farewell.look() for _ in range(3)] == [1, 1, 1]
        assert client.recv(1000) == FRAME
        assert nothing_to_read(client)


def test_a_connection_whose_client_reads_nothing_is_not_written_to_until_it_does() -> None:
    with connected() as (port, client, server):
        server.setblocking(False)
        sent = 0
        try:
            while True:
                sent += server.send(bytes(LITTLE_BYTES))
        except BlockingIOError:
            pass
        farewell = Farewell(port)
        for _ in range(3):
            farewell.look()
        received = bytearray()
        while len(received) < sent:
            received += client.recv(1 << 16)
        assert not any(received)

        def told() -> bool:
            farewell.look()
            return not nothing_to_read(client)

        eventually(told)
        assert client.recv(1000) == FRAME


def test_a_port_that_is_not_listened_on_any_more_keeps_its_connections() -> None:
    with connected() as (port, client, server):
        assert Farewell(port).stop_listening() == 1
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=HANG_GUARD_S)
        server.sendall(b"still here")
        assert client.recv(1000) == b"still here"


def test_no_call_fails_when_one_of_two_servers_ends_and_no_policy_retries(
    own_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is, the client gets the time that it needs.
    monkeypatch.setattr(assembly, "_LEAVE_S", HANG_GUARD_S)
    staying, going = own_service(), own_service()
    # Without a retry policy a client repeats only what it knows that no server saw. That it must: a call that it was
    # about to write when the GOAWAY came has nowhere to go on its connection, whatever the server does. What the server
    # had and ended, it does not repeat.
    options = [("grpc.lb_policy_name", "round_robin")]
    target = f"ipv4:{staying.address},{going.address}"
    with grpc.insecure_channel(target, options=options) as channel:
        call = channel.unary_unary(f"/{SERVICE}/Recommend")
        both = [staying.recommender, going.recommender]
        while not all(recommender.queries for recommender in both):
            call(b"", timeout=HANG_GUARD_S)
        gate = going.recommender.hold = threading.Event()
        futures = [call.future(b"", timeout=HANG_GUARD_S) for _ in range(10)]
        eventually(lambda: going.server.admission.in_flight > 0, "a call is under way where the end comes")
        draining = going.drain_soon(4 * HANG_GUARD_S)
        while not draining.done():
            futures.append(call.future(b"", timeout=HANG_GUARD_S))
            # Those on the server that goes are held until it has had some that were sent after the drain began.
            if len(futures) >= 50:
                gate.set()
                futures[-1].exception(HANG_GUARD_S)
        assert draining.result() is True
        futures += [call.future(b"", timeout=HANG_GUARD_S) for _ in range(10)]
        assert [future.exception(HANG_GUARD_S) for future in futures if future.exception(HANG_GUARD_S)] == []


def test_calls_are_answered_while_health_already_says_that_the_server_goes(
    own_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = own_service()
    seen: list[tuple[bool, bytes]] = []
    see_off = service.server._see_off

    async def seeing_off(seconds: float) -> None:
        # Off the loop, which serves meanwhile.
        seen.append((service.server.serving, await asyncio.to_thread(service.unary, "Recommend")))
        await see_off(0.0)

    with monkeypatch.context() as patch:
        patch.setattr(service.server, "_see_off", seeing_off)
        assert service.drain_soon(HANG_GUARD_S).result(HANG_GUARD_S) is True
    [(serving, answered)] = seen
    assert not serving
    assert answered
