"""`recserv gateway`: HTTP and JSON in front of a gRPC server."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from recserv.errors import UsageError

FLAGS: dict[str, tuple[str, str]] = {
    "target": ("HOST:PORT", "the gRPC server"),
    "listen": (
        "HOST:PORT",
        "where to serve HTTP; 0.0.0.0:8080 in a container, port 0 takes a free one (127.0.0.1:8080)",
    ),
    "allow_origin": ("ORIGIN", "whose pages may call, such as https://shop.example; may be repeated (none)"),
    "timeout_ms": ("MS", "deadline of requests without X-Request-Timeout-Ms (2000)"),
    "timeout_ms_max": ("MS", "no request waits longer, whatever it says (60000)"),
    "body_bytes_max": ("BYTES", "of a request (4194304)"),
    "max_in_flight": ("N", "requests at once; the next one is 429 (256)"),
    "max_streams": ("N", "open streams of explanations (1000)"),
    "keep_alive_ms": ("MS", "how long a connection may be idle between requests (5000)"),
    "heartbeat_ms": ("MS", "between two signs of life on a stream on which nothing happens (15000)"),
    "drain_ms": ("MS", "how long requests in flight may take to finish after SIGTERM (10000)"),
    "log_level": ("LEVEL", "debug, info, warning or error (info)"),
    "max_watches": ("N", "open streams of recommendations (1000)"),
    "head_timeout_ms": ("MS", "how long a connection may take for the head of a request (10000)"),
    "unread_ms": ("MS", "how long what was sent to a caller may stay unread before its connection ends (60000)"),
    "max_connections": ("N", "open at once, streams among them; the next one is 503 and closed (3000)"),
    "public_url": ("URL", "where callers find the gateway, for its OpenAPI documents (where they ask for it)"),
    "metrics": ("HOST:PORT", "a server's --metrics-listen, for the page at /status; may be repeated (no page)"),
    "page": ("", "serve a page for people under /look/ (not served)"),
    "images": ("", "let the page show a catalogue's images, from whatever hosts it names (not shown)"),
    "compare": ("HOST:PORT", "a second server, whose paths lie below /compare (none)"),
}
_REPEATED = ("allow_origin", "metrics")
_SWITCHES = ("page", "images")


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "gateway",
        help="HTTP and JSON in front of a server",
        description="Serves every unary RPC of a gRPC server as HTTP and JSON until SIGTERM. Settings can also come"
        " from the environment (RECSERV_GATEWAY_LISTEN=...); flags win.",
    )
    for key, (metavar, text) in FLAGS.items():
        how: dict[str, Any] = {"metavar": metavar}
        if key in _SWITCHES:
            how = {"action": "store_true", "default": None}
        elif key in _REPEATED:
            how["action"] = "append"
        parser.add_argument("--" + key.replace("_", "-"), help=text, **how)
    parser.set_defaults(run=run)


def needs_gateway() -> None:
    """Raises UsageError where what it stands on is not installed."""
    try:
        import recserv.gateway.process  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise UsageError(
            f"{error.name} is not installed: install recserv with its extra, 'recserv[gateway]'"
        ) from error


def run(args: argparse.Namespace) -> int:
    needs_gateway()
    from recserv.gateway.process import run_gateway
    from recserv.gateway.settings import load_gateway_settings

    def warn(text: str) -> None:
        print(f"recserv gateway: {text}", file=sys.stderr)

    settings = load_gateway_settings({key: getattr(args, key) for key in FLAGS}, os.environ, warn)
    run_gateway(settings, lambda url: print(f"recserv gateway on {url}", flush=True))
    return 0
