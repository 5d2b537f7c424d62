"""Connections closed from outside of gRPC, as a process does that is about to end."""

from __future__ import annotations

import socket
from collections.abc import Callable

import grpc
import pytest

from recserv.server.cut import cut_connections
from tests.patience import HANG_GUARD_S
from tests.server.harness import Failure, Service
from tests.server.test_limits import in_flight, release


def test_a_port_and_its_connections_are_closed_and_others_are_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours, socket.create_server(("127.0.0.1", 0)) as other:
        port = ours.getsockname()[1]
        with socket.create_connection(ours.getsockname()) as client, socket.create_connection(other.getsockname()):
            accepted, _ = ours.accept()
            with accepted:
                accepted.sendall(b"the last answer")
                assert cut_connections(port) == 2
                assert cut_connections(port) == 0
                client.settimeout(HANG_GUARD_S)
                assert client.recv(100) == b"the last answer"
                assert client.recv(100) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=HANG_GUARD_S)
        socket.create_connection(other.getsockname(), timeout=HANG_GUARD_S).close()


def test_who_is_cut_off_hears_unavailable_and_nobody_comes_in_after(
    own_service: Callable[..., Service],
) -> None:
    service = own_service()
    [future] = in_flight(service, 1)
    service.server.cut_off()
    with pytest.raises(grpc.RpcError) as held:
        future.result(HANG_GUARD_S)
    assert held.value.code() == grpc.StatusCode.UNAVAILABLE
    release(service)
    with pytest.raises(Failure) as caught:
        service.unary("Recommend")
    assert caught.value.code == grpc.StatusCode.UNAVAILABLE
