"""`recserv serve`: the gRPC server."""

from __future__ import annotations

import argparse
import os
from typing import Any, NoReturn

from recserv.config import KEYS, load_settings

# A flag for each setting; what is not given comes from the environment, the file or the default.
_FLAGS: dict[str, tuple[str, str]] = {
    "model": ("MODEL_DIR", "directory written by `recserv build`"),
    "listen": (
        "HOST:PORT",
        "where to serve gRPC; 0.0.0.0:50051 in a container, port 0 takes a free one (127.0.0.1:50051)",
    ),
    "state": (
        "WHERE",
        (
            "embedded:PATH (one process, one SQLite file), redis://HOST:PORT/DB,"
            " redis+sentinel://HOST:PORT,HOST:PORT/SERVICE or redis+cluster://HOST:PORT,HOST:PORT; rediss for TLS;"
            " env:NAME takes it from the environment (embedded:recserv-state.sqlite)"
        ),
    ),
    "state_memory_mib": ("MIB", "for the sessions and profiles that an embedded state keeps in memory (1024)"),
    "cache_memory_mib": (
        "MIB",
        "for what each process keeps besides: contexts of sessions, explanation tokens (128)",
    ),
    "require_durable": ("on|off", "refuse a Redis that may lose acknowledged events, see below (off)"),
    "redis_connect_timeout_ms": ("MS", "for a connection to Redis (150)"),
    "redis_read_timeout_ms": ("MS", "for a batch of reads; what takes longer is answered without stored state (150)"),
    "redis_write_timeout_ms": ("MS", "for a batch of events; what takes longer is answered UNAVAILABLE (250)"),
    "workers": ("N", "processes; more than one needs redis (1)"),
    "metrics_listen": (
        "HOST:PORT",
        "where Prometheus finds /metrics and probes /healthz, or off; 0.0.0.0:9464 in a container (127.0.0.1:9464)",
    ),
    "default_deadline_ms": ("MS", "deadline of unary calls whose client set none (1000)"),
    "recommend_budget_ms": ("MS", "within which a Recommend is answered, degraded if need be (200)"),
    "max_in_flight": (
        "N",
        "calls at once of each class (recommend, events, others); beyond it RESOURCE_EXHAUSTED (256)",
    ),
    "max_streams": ("N", "open streaming calls (1000)"),
    "max_watches": ("N", "open WatchRecommendations calls (1000)"),
    "watch_interval_ms": ("MS", "between two looks of one watch; closer events are answered once (100)"),
    "watch_probe_ms": ("MS", "how often Redis is asked what other processes wrote of watched shoppers (250)"),
    "max_waiting_calls": ("N", "calls that may wait to be looked at; of more some are dropped unheard (10000)"),
    "max_calls_per_connection": ("N", "calls and streams of one connection at once; 0: no limit (1000)"),
    "drain_ms": ("MS", "how long calls in flight may take to finish after SIGTERM (10000)"),
    "lame_duck_ms": ("MS", "of the drain: new calls are still served while health says NOT_SERVING (200)"),
    "share_port": ("on|off", "let another server of the same user listen on this port too, for deployments (off)"),
    "connection_age_ms": ("MS", "ask clients to connect anew after this long, so that load spreads; 0: never (300000)"),
    "connection_age_grace_ms": ("MS", "how long calls on such a connection may still take; 0: no limit (0)"),
    "model_watch_ms": ("MS", "how often to look for a new model in MODEL_DIR; 0: on SIGHUP only (5000)"),
    "context_cache": ("on|off", "keep what was computed for a session until it changes (on)"),
    "exclude_purchased": ("on|off", "leave out what the shopper bought, unless the request says otherwise (off)"),
    "id_retention_hours": ("H", "how long event ids are remembered (24)"),
    "log_retention_hours": ("H", "how long the event log is kept (168)"),
    "log_level": ("LEVEL", "debug, info, warning or error (info)"),
    "log_salt": ("TEXT", "key of the hash that stands for user ids in the logs (random)"),
    "on_bad_model": ("WHAT", "refuse to start, or serve the popular items of what can be read (refuse)"),
}
assert set(_FLAGS) == set(KEYS)


_DURABILITY = """\
An event is acknowledged once it is durable in the store. With an embedded state that is a commit that was synced to
disk. With Redis it is what Redis is configured to do:
  appendfsync always    synced to disk before the acknowledgement; lost only with the disk
  appendfsync everysec  a crash of the machine loses about the last second; a crash of Redis alone loses nothing
  appendfsync no        a crash of the machine loses what the system had not written yet
  appendonly no         a restart loses everything since the last snapshot
  a replica takes over  (Sentinel, Cluster) loses what the old primary had not sent to it yet, whatever appendfsync is
  maxmemory-policy      anything but noeviction drops event ids and profiles when memory is short
The server warns of these when it starts; --require-durable on makes it refuse anything but appendfsync always and
noeviction. It cannot know of replicas: min-replicas-to-write bounds what a failover may lose.
"""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "serve",
        help="serve a model over gRPC",
        description="Serves a model until SIGTERM. Settings can also come from the environment (RECSERV_LISTEN=...)"
        " or from a TOML file (listen = '...'); flags win over the environment, which wins over the file.",
        epilog=_DURABILITY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file of settings")
    for key, (metavar, text) in _FLAGS.items():
        parser.add_argument("--" + key.replace("_", "-"), metavar=metavar, help=text)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> NoReturn:
    # The settings come first: they are quick to check, and numpy is not quick to load.
    warnings: list[str] = []
    settings = load_settings({key: getattr(args, key) for key in KEYS}, os.environ, args.config, warnings.append)
    from recserv.app.process import serve

    serve(settings, lambda line: print(line, flush=True), warnings)
