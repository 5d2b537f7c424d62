"""The port belongs to one server, unless it is meant to be shared."""

from __future__ import annotations

import itertools
import socket
from contextlib import ExitStack

import pytest

from recserv.app.fleet.port import reserved_port
from recserv.errors import UsageError
from tests.patience import HANG_GUARD_S

HOST = "127.0.0.1"


def listen(port: int, *, share: bool) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((HOST, port))
    listener.listen()
    return listener


def accept_all(listener: socket.socket) -> int:
    listener.setblocking(False)
    for number in itertools.count():
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return number
    raise AssertionError


def test_workers_share_the_port_and_connections_reach_them_alone() -> None:
    with reserved_port(HOST, 0, shared=False) as port, listen(port, share=True) as one, listen(port, share=True) as two:
        calls = [socket.create_connection((HOST, port), timeout=HANG_GUARD_S) for _ in range(40)]
        accepted = [accept_all(listener) for listener in (one, two)]
        for call in calls:
            call.close()
    assert sum(accepted) == 40
    assert min(accepted) > 0


@pytest.mark.parametrize("shared", [False, True])
def test_nobody_else_can_take_the_port(shared: bool) -> None:
    with reserved_port(HOST, 0, shared=shared) as port:
        with pytest.raises(OSError, match="in use"):
            listen(port, share=False)
        with (
            pytest.raises(UsageError, match=rf"{HOST}:{port}: the address is in use"),
            reserved_port(HOST, port, shared=False),
        ):
            pass


def test_a_second_server_is_refused_even_before_the_first_has_a_worker() -> None:
    with reserved_port(HOST, 0, shared=False) as port:
        pass
    with (
        reserved_port(HOST, port, shared=False),
        pytest.raises(UsageError, match="in use"),
        reserved_port(HOST, port, shared=False),
    ):
        pass
    with reserved_port(HOST, port, shared=False):
        pass


def test_two_servers_that_both_say_so_share_a_port() -> None:
    with ExitStack() as stack:
        port = stack.enter_context(reserved_port(HOST, 0, shared=True))
        assert stack.enter_context(reserved_port(HOST, port, shared=True)) == port
        stack.enter_context(listen(port, share=True))


def test_a_port_that_somebody_listens_on_is_refused() -> None:
    with listen(0, share=False) as other:
        port = other.getsockname()[1]
        for shared in (False, True):
            with pytest.raises(UsageError, match="in use"), reserved_port(HOST, port, shared=shared):
                pass


def test_a_port_is_free_again_for_the_next_server_though_connections_linger() -> None:
    with (
        reserved_port(HOST, 0, shared=False) as port,
        listen(port, share=True) as listener,
        socket.create_connection((HOST, port), timeout=HANG_GUARD_S) as call,
    ):
        # The server closes first, so the connection lingers on its side.
        listener.accept()[0].close()
        assert call.recv(1) == b""
    with reserved_port(HOST, port, shared=False):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "localhost"])
def test_wildcards_and_names_are_reserved_too(host: str) -> None:
    with reserved_port(host, 0, shared=False) as port, pytest.raises(OSError, match="in use"):
        listen(port, share=False)


def test_an_address_of_another_machine_is_a_usage_error_that_names_it() -> None:
    with (
        pytest.raises(UsageError, match=r"cannot listen on 192\.0\.2\.1:"),
        reserved_port("192.0.2.1", 0, shared=False),
    ):
        pass
