"""The process behind `recserv serve`: one server, or the parent of several workers."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from recserv.config import Settings
from recserv.errors import UsageError
from recserv.logs import Logs
from recserv.open_files import raise_open_files

logger = logging.getLogger("recserv.app")


def check_supported(settings: Settings) -> None:
    """Raises UsageError for settings that do not go together on this system."""
    if settings.workers > 1 and settings.state.startswith("embedded:"):
        raise UsageError(
            f"--workers {settings.workers} needs a state that processes can share (--state redis://...): an embedded"
            " state belongs to one process"
        )
    if settings.workers > 1 and sys.platform != "linux":
        raise UsageError("--workers above 1 needs Linux, whose kernel spreads connections over the workers")


def serve(settings: Settings, announce: Callable[[str], None], warnings: Sequence[str] = ()) -> NoReturn:
    """Serves until SIGTERM or SIGINT, and ends the process. `announce` gets the lines that scripts wait for; `warnings`
    about the settings go to the log.

    Raises UsageError if the server cannot start, GenerationFailed if its workers cannot be kept alive.
    """
    check_supported(settings)
    raise_open_files()
    logs = Logs(settings.log_level)
    for warning in warnings:
        logger.warning("a setting is ignored", extra={"fields": {"problem": warning}})
    # SIGHUP asks for another model; before there is one it must not end the process.
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        # Each imports only what it needs: the parent of workers has no use for a model or for gRPC.
        if settings.workers > 1:
            from recserv.app.fleet.supervisor import supervise

            supervise(settings, announce)
        else:
            from recserv.app.alone import serve_alone

            serve_alone(settings, logs, announce, partial(leave, logs))
    except BaseException:
        signal.signal(signal.SIGHUP, hang_up)
        logs.close()
        raise
    leave(logs)


def leave(logs: Logs, code: int = 0) -> NoReturn:
    """Ends the process here and now, with everything written."""
    logs.close()
    sys.stdout.flush()
    os._exit(code)
