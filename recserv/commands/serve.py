"""`recserv serve`: the gRPC server."""

from __future__ import annotations

import argparse
import os
from typing import Any

from recserv.config import KEYS, load_settings

# A flag for each setting; what is not given comes from the environment, the file or the default.
_FLAGS: dict[str, tuple[str, str]] = {
    "model": ("MODEL_DIR", "directory written by `recserv build`"),
    "listen": ("HOST:PORT", "where to serve gRPC; port 0 takes a free one (127.0.0.1:50051)"),
    "state": ("WHERE", "embedded:PATH (one process, one SQLite file) or redis://... (embedded:recserv-state.sqlite)"),
    "workers": ("N", "processes; more than one needs redis (1)"),
    "metrics_listen": ("HOST:PORT", "where Prometheus scrapes, or off (127.0.0.1:9464)"),
    "default_deadline_ms": ("MS", "deadline of calls whose client set none (1000)"),
    "max_in_flight": ("N", "calls worked on at once; beyond it RESOURCE_EXHAUSTED (256)"),
    "max_streams": ("N", "open streaming calls (1000)"),
    "drain_ms": ("MS", "how long calls in flight may take to finish after SIGTERM (10000)"),
    "context_cache": ("on|off", "keep what was computed for a session until it changes (on)"),
    "exclude_purchased": ("on|off", "leave out what the shopper bought, unless the request says otherwise (off)"),
    "id_retention_hours": ("H", "how long event ids are remembered (24)"),
    "log_retention_hours": ("H", "how long the event log is kept (168)"),
    "log_level": ("LEVEL", "debug, info, warning or error (info)"),
    "log_salt": ("TEXT", "key of the hash that stands for user ids in the logs (random)"),
    "on_bad_model": ("WHAT", "refuse to start, or serve the popular items of what can be read (refuse)"),
}
assert set(_FLAGS) == set(KEYS)


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "serve",
        help="serve a model over gRPC",
        description="Serves a model until SIGTERM. Settings can also come from the environment (RECSERV_LISTEN=...)"
        " or from a TOML file (listen = '...'); flags win over the environment, which wins over the file.",
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file of settings")
    for key, (metavar, text) in _FLAGS.items():
        parser.add_argument("--" + key.replace("_", "-"), metavar=metavar, help=text)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # The settings come first: they are quick to check, and numpy is not quick to load.
    settings = load_settings({key: getattr(args, key) for key in KEYS}, os.environ, args.config)
    from recserv.app import serve

    return serve(settings, lambda line: print(line, flush=True))
