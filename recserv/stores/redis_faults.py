"""Failures of Redis, as a few fixed words that can be labels of a metric.

Every foreign exception is mapped here, once. A Fault says what a caller may do: follow a Redirect, with `stale_node`
ask who is the primary now, otherwise give up and answer UNAVAILABLE.
"""

from __future__ import annotations

import asyncio

from redis import exceptions as redis_errors

from recserv.errors import StoreUnavailable
from recserv.stores.redis_url import Address

# First word of the error reply -> cause.
_REPLIES = {
    "LOADING": "loading",
    "READONLY": "readonly",
    "OOM": "oom",
    "NOSCRIPT": "noscript",
    "WRONGTYPE": "wrongtype",
    "MOVED": "moved",
    "ASK": "ask",
    "TRYAGAIN": "tryagain",
    "CLUSTERDOWN": "clusterdown",
    "MASTERDOWN": "masterdown",
    "MISCONF": "misconf",
    "NOREPLICAS": "noreplicas",
    "BUSY": "busy",
    "NOAUTH": "auth",
    "WRONGPASS": "auth",
    "NOPERM": "noperm",
    "UNBLOCKED": "failover",
    "NOGROUP": "nogroup",
    "BUSYGROUP": "busygroup",
}
# After these, another node may be the right one.
_STALE_NODE = frozenset({"refused", "timeout", "connection_lost", "readonly", "masterdown", "clusterdown", "failover"})


class Fault(StoreUnavailable):
    """`cause`: one of a few words."""

    def __init__(self, cause: str, text: str):
        self.cause = cause
        super().__init__(f"Redis: {text}")

    @property
    def stale_node(self) -> bool:
        return self.cause in _STALE_NODE


class Redirect(Fault):
    """The cluster says where the slot is: for good (`moved`) or for this call."""

    def __init__(self, cause: str, text: str, slot: int, address: Address):
        super().__init__(cause, text)
        self.slot = slot
        self.address = address


def fault_of_reply(error: Exception) -> Fault:
    """Of an error that the server answered."""
    text = reply_text(error)
    cause = _REPLIES.get(text.partition(" ")[0])
    if cause is None:
        # An error inside a script keeps the word of the command that failed: `WRONGTYPE` or `-WRONGTYPE` later on.
        cause = next((known for word, known in _REPLIES.items() if f"{word} " in text), "server_error")
    if cause in ("moved", "ask"):
        return _redirect(cause, text)
    return Fault(cause, text[:200])


def _redirect(cause: str, text: str) -> Fault:
    try:
        _, slot, where = text.split(" ")[:3]
        host, _, port = where.rpartition(":")
        return Redirect(cause, text, int(slot), Address(host, int(port)))
    except ValueError:
        return Fault("server_error", text[:200])


def reply_text(error: Exception) -> str:
    """The server's own line: redis-py turns some into classes and takes the first word away."""
    text = str(error)
    for kind, word in _CLASS_WORDS:
        if isinstance(error, kind) and not text.startswith(word):
            return f"{word} {text}"
    return text


_CLASS_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (redis_errors.BusyLoadingError, "LOADING"),
    (redis_errors.ReadOnlyError, "READONLY"),
    (redis_errors.OutOfMemoryError, "OOM"),
    (redis_errors.NoScriptError, "NOSCRIPT"),
    (redis_errors.MovedError, "MOVED"),  # an AskError, too
    (redis_errors.AskError, "ASK"),
    (redis_errors.TryAgainError, "TRYAGAIN"),
    (redis_errors.MasterDownError, "MASTERDOWN"),
    (redis_errors.ClusterDownError, "CLUSTERDOWN"),
    (redis_errors.NoPermissionError, "NOPERM"),
    (redis_errors.AuthenticationError, "NOAUTH"),
)


def fault_of_connection(error: BaseException, address: Address, *, connecting: bool) -> Fault:
    """The fault for an exception that a connection raised while it was opened or used."""
    where = f"{address}: {type(error).__name__}"
    if isinstance(error, Fault):
        return error
    if isinstance(error, redis_errors.BusyLoadingError):
        return Fault("loading", f"{where}: loading its data")
    if isinstance(error, redis_errors.AuthenticationError):
        return Fault("auth", f"{where}: user or password refused")
    if isinstance(error, (asyncio.TimeoutError, redis_errors.TimeoutError)):
        return Fault("timeout", f"{address} did not answer in time")
    if isinstance(error, redis_errors.InvalidResponse):
        return Fault("protocol", f"{address} does not speak the protocol of Redis")
    if isinstance(error, redis_errors.ResponseError):
        return fault_of_reply(error)
    if isinstance(error, redis_errors.RedisError | OSError):
        return Fault("refused", f"{where} on connecting") if connecting else Fault("connection_lost", where)
    return Fault("client_error", where)
