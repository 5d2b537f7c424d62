"""`recserv look`: a shop in the browser whose clicks change the list beside it.

Without a target: the demo's model, built where none is kept, a server on it in a process of its own, and the gateway
with its page in this one. Ctrl-C ends all that was started; what was stored ends with it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from recserv.app.server_process import ServerProcess, end_as_by_ctrl_c
from recserv.commands.demo import MODEL, build_demo, check_demo
from recserv.commands.gateway import needs_gateway
from recserv.errors import UsageError
from recserv.model.manifest import MANIFEST_FILE
from recserv.model.snapshot import read_manifest

LISTEN = "127.0.0.1:0"
DRAIN_MS = 1_000
"""Whoever presses Ctrl-C watches the page alone, and its streams end at once."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "look",
        help="a page on which clicks change the recommendations",
        description="Opens a shop in the browser: search, look, fill the cart, and see what each click does to the"
        " list. On a server of yours, on a model of yours, or on the demo's, which it builds if there is none.",
    )
    parser.add_argument("--target", metavar="HOST:PORT", help="a server that runs (one is started)")
    parser.add_argument("--compare", metavar="HOST:PORT", help="a second server, whose list is shown beside (none)")
    parser.add_argument("--model", type=Path, metavar="DIR", help=f"serve this model ({MODEL}, built if it is missing)")
    parser.add_argument("--listen", metavar="HOST:PORT", help="where to serve the page (127.0.0.1, a free port)")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    parser.add_argument(
        "--images", action="store_true", help="show the catalogue's images: the browser asks the hosts that it names"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises UsageError for what cannot be, before anything is started."""
    if args.target and args.model:
        raise UsageError("--target is a server that runs and --model is for one that is started: give one of them")
    needs_gateway()
    from recserv.gateway.process import check_listen
    from recserv.gateway.settings import load_gateway_settings

    def settings(target: str) -> Any:
        flags = {"target": target, "compare": args.compare, "images": args.images or None}
        fixed = {"listen": args.listen or LISTEN, "page": True, "drain_ms": DRAIN_MS, "log_level": "warning"}
        return load_gateway_settings({**flags, **fixed}, os.environ)

    # Whether they are fine, while nothing runs yet: the demo's model takes its minutes.
    check_listen(settings(args.target or LISTEN).listen)
    end_as_by_ctrl_c()
    with tempfile.TemporaryDirectory(prefix="recserv-look-") as scratch, _target(args, Path(scratch)) as target:
        _serve(settings(target), args.no_browser)
    return 0


@contextmanager
def _target(args: argparse.Namespace, scratch: Path) -> Iterator[str]:
    if args.target:
        yield args.target
        return
    model = args.model
    if model is None:
        model = MODEL
        if not (model / MANIFEST_FILE).exists():
            check_demo(model)
            build_demo(Console(), model, scratch)
    else:
        # Said at once, and not by a server that does not start.
        read_manifest(model)
    with ServerProcess.started(model, scratch / "state.sqlite") as server:
        yield server.target


def _serve(settings: Any, no_browser: bool) -> None:
    from recserv.gateway.process import run_gateway

    run_gateway(settings, lambda url: _show(f"{url}/look/", no_browser, webbrowser.open))


def _show(url: str, no_browser: bool, open_url: Callable[[str], object]) -> None:
    print(f"recserv look on {url}", flush=True)
    print("Ctrl-C ends it.", flush=True)
    if no_browser or not _has_screen():
        return
    # Some browsers hold whoever opens them until they are closed.
    threading.Thread(target=open_url, args=(url,), daemon=True).start()


def _has_screen() -> bool:
    """Else a browser of the terminal would be opened, over what was printed there."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
