"""The port that all workers listen on, held by the parent from before the first worker to after the last.

A socket that is bound but does not listen takes no connection away from anybody. It is bound without SO_REUSEPORT, so
that the kernel refuses it if anybody else has the port; the option comes afterwards, and lets the workers in.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

from recserv.errors import UsageError


@contextlib.contextmanager
def reserved_port(host: str, port: int, *, shared: bool) -> Iterator[int]:
    """The port for `host`, a free one for 0, reserved inside the block. Raises UsageError.

    `shared`: another server of the same user may have it reserved, too, if it does so with this option.
    """
    with contextlib.ExitStack() as stack:
        if not shared and port:
            stack.enter_context(_only_holder(host, port))
        for family, address in _addresses(host):
            holder = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            if family == socket.AF_INET6:
                holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
            try:
                if port:
                    # Connections of an earlier server that are still in TIME_WAIT must not keep us out.
                    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if shared:
                    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                holder.bind((address, port))
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            except OSError as error:
                raise _refused(host, port, error) from error
            port = holder.getsockname()[1]
        yield port


def _addresses(host: str) -> list[tuple[int, str]]:
    """Families and addresses that gRPC would listen on for this host: for a wildcard, dual-stack IPv6."""
    if host in ("0.0.0.0", "::", "*"):
        return [(socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, "0.0.0.0")]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _refused(host, 0, error) from error
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))


@contextlib.contextmanager
def _only_holder(host: str, port: int) -> Iterator[None]:
    """Two servers that start at the same moment, before either has a worker that listens, could both bind the port,
    because of SO_REUSEADDR. A name that only one socket can have tells them apart.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as name:
        try:
            name.bind(f"\0recserv-port-{host}-{port}")
        except OSError as error:
            raise _refused(host, port, error) from error
        yield


def _refused(host: str, port: int, error: OSError) -> UsageError:
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"cannot listen on {name}: the address is in use (--share-port on lets two servers have it)")
    return UsageError(f"cannot listen on {name}: {error.strerror or error}")
