"""The event loop of the processes that speak gRPC: uvloop where there is one.

    gRPC's thread: event into a queue, one byte into a socket -> the loop: one byte out of it, the queue emptied

A byte is written for each event, and one is read in each turn of the loop, however many events the turn took. On a busy
loop the bytes pile up. The socket holds some 280 of them (each is a buffer of its own in the kernel); then the thread
stands still in its write until the next turn reads one: the loop gets one event in a turn, and new calls wait unseen
until nothing else is left to do.

So when there are many, all but one of the bytes are read here before gRPC looks: what it does then is what one byte
makes it do. That leans on what grpcio does inside (one byte, then the whole queue), so it is done with the versions
that were tried alone; with any other the loop is as it is without. And only for the one loop of a process: where
several have gRPC objects they share the socket, and what one of them looked at another may have read.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, cast
from weakref import WeakKeyDictionary, WeakSet

from recserv.grpc_internals import tried

_GRPC_CALLBACK = "PollerCompletionQueue._handle_events"
_LEFT_ALONE = 32
"""So few do no harm: they make an idle loop turn once more each, and a loop that is awake answers the next call sooner
than one that must be woken (some 8 % of a call, one after the other).
"""
_BYTES_MAX = 4096
"""Of more, the rest is read in the next turn."""
_readers: WeakKeyDictionary[socket.socket, WeakSet[Any]] = WeakKeyDictionary()
"""gRPC's sockets, and the loops that read them."""


@cache
def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """For asyncio.Runner; None is asyncio's own."""
    return None if sys.platform == "win32" else _made_of(_best_loop())


def _best_loop() -> type:
    with contextlib.suppress(ModuleNotFoundError):
        # Not built for every system.
        import uvloop

        return uvloop.Loop
    return asyncio.SelectorEventLoop


def _made_of(base: type) -> Callable[[], asyncio.AbstractEventLoop]:
    return cast(Callable[[], asyncio.AbstractEventLoop], type("EventLoop", (_WokenOnce, base), {}))


class _WokenOnce:
    """Before a loop's class in the order of bases."""

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        if isinstance(fd, socket.socket) and _is_grpcs(callback):
            loops = _readers.setdefault(fd, WeakSet())
            loops.add(self)
            callback = _woken_once(fd, loops, callback)
        return cast(Any, super()).add_reader(fd, callback, *args)

    def close(self) -> None:
        for loops in list(_readers.values()):
            loops.discard(self)
        cast(Any, super()).close()


def _is_grpcs(callback: Any) -> bool:
    function = getattr(callback, "func", callback)
    return getattr(function, "__qualname__", "") == _GRPC_CALLBACK and tried()


def _woken_once(wakes: socket.socket, loops: WeakSet[Any], callback: Callable[..., Any]) -> Callable[..., Any]:
    def handle(*args: Any) -> None:
        if len(loops) == 1:
            with contextlib.suppress(BlockingIOError):
                # Nothing there: a loop that is not one of these read it.
                written = len(wakes.recv(_BYTES_MAX, socket.MSG_PEEK))
                if written > _LEFT_ALONE:
                    # An event is in the queue before its byte is here, so what is emptied next holds all of theirs.
                    wakes.recv(written - 1)
        callback(*args)

    return handle
