"""Which Redis a `--state` names.

    redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]                                one server
    redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT],HOST[:PORT].../SERVICE[/DB]  whoever Sentinel says is the primary
    redis+cluster://[[USER]:PASSWORD@]HOST[:PORT],HOST[:PORT]...              Redis Cluster, found through any of these

`rediss` in the place of `redis` is TLS. Parameters: `?ca_certs=FILE` the authority to trust besides the system's,
`&sentinel_user=..&sentinel_password=..` where the sentinels want others than the server. User and password are
percent-encoded, as in any URL; `--state env:NAME` keeps them out of the command line.
"""

from __future__ import annotations

from enum import Enum
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from recserv.errors import UsageError

PORT, SENTINEL_PORT = 6379, 26379
_SCHEMES = ("redis", "rediss")
_PARAMETERS = frozenset({"ca_certs", "sentinel_user", "sentinel_password"})


class Address(msgspec.Struct, frozen=True, order=True):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Mode(Enum):
    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class RedisTarget(msgspec.Struct, frozen=True, kw_only=True):
    """`addresses`: of the server, of the sentinels, or of some nodes of the cluster."""

    mode: Mode
    addresses: tuple[Address, ...]
    service: str = ""
    db: int = 0
    username: str = ""
    password: str = ""
    tls: bool = False
    ca_certs: str = ""
    sentinel_user: str = ""
    sentinel_password: str = ""

    def __str__(self) -> str:
        """Without the password: fit for a log line."""
        kind = "" if self.mode == Mode.SINGLE else f"+{self.mode.value}"
        return f"redis{'s' if self.tls else ''}{kind}://{','.join(map(str, self.addresses))}"


def parse_target(url: str) -> RedisTarget:
    """Raises UsageError, which never repeats the URL: it may hold a password."""
    scheme, _, rest = url.partition("://")
    family, _, kind = scheme.partition("+")
    if family not in _SCHEMES or kind not in ("", "sentinel", "cluster") or not rest:
        raise UsageError(
            "state: must begin with redis://, redis+sentinel://, redis+cluster:// or one of their rediss forms"
        )
    mode = Mode(kind) if kind else Mode.SINGLE
    try:
        parts = urlsplit(f"//{rest}")
    except ValueError as error:
        raise UsageError("state: has brackets that do not enclose an address") from error
    user, password, hosts = _credentials(parts.netloc)
    path = [unquote(step) for step in parts.path.strip("/").split("/") if step]
    service = path.pop(0) if mode == Mode.SENTINEL and path else ""
    if mode == Mode.SENTINEL and not service:
        raise UsageError("state: redis+sentinel:// needs the name of its service behind the addresses: /SERVICE")
    addresses = tuple(_address(text, SENTINEL_PORT if mode == Mode.SENTINEL else PORT) for text in hosts.split(","))
    if mode == Mode.SINGLE and len(addresses) > 1:
        raise UsageError("state: redis:// names one server; several belong to redis+sentinel:// or redis+cluster://")
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(parameters.keys() - _PARAMETERS):
        raise UsageError(f"state: unknown parameters in the URL: {', '.join(unknown)}")
    return RedisTarget(
        mode=mode,
        addresses=addresses,
        service=service,
        db=_database(mode, path),
        username=user,
        password=password,
        tls=family == "rediss",
        **parameters,
    )


def _credentials(netloc: str) -> tuple[str, str, str]:
    before, at, hosts = netloc.rpartition("@")
    if not at:
        return "", "", hosts
    user, _, password = before.partition(":")
    return unquote(user), unquote(password), hosts


def _address(text: str, default_port: int) -> Address:
    bracketed, _, after = text.rpartition("]")
    if bracketed:
        host, port = bracketed.lstrip("["), after.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536)):
        raise UsageError(f"state: {text!r} is not HOST or HOST:PORT")
    return Address(host, int(port) if port else default_port)


def _database(mode: Mode, path: list[str]) -> int:
    if not path:
        return 0
    number = path[0]
    if len(path) > 1 or not (number.isascii() and number.isdigit()):
        raise UsageError("state: only the number of a database may follow the address")
    if mode == Mode.CLUSTER and int(number):
        raise UsageError("state: Redis Cluster has database 0 only")
    return int(number)
