"""A server and the null handler measured in turns, so that both meet the same machine."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import msgspec

from recserv.bench.load import DURATION_S_MIN, LoadFailed, LoadMaker, LoadOptions, LoadResult, merge_runs
from recserv.bench.null_server import BANNER

ROUNDS = 4


class Comparison(msgspec.Struct, frozen=True):
    options: LoadOptions
    target: LoadResult
    null: LoadResult

    def ratio(self, share: float) -> float:
        """The server's quantile as a multiple of the null handler's."""
        return self.target.latencies.quantile_s(share) / self.null.latencies.quantile_s(share)


def compare(
    options: LoadOptions, rounds: int = ROUNDS, on_round: Callable[[int], None] = lambda done: None
) -> Comparison:
    """`options.requests` and `options.duration_s` for each of the two, in `rounds` turns. `on_round` gets the number of
    turns done. Raises UsageError or LoadFailed.
    """
    rounds = min(rounds, options.requests)
    targets: list[LoadResult] = []
    nulls: list[LoadResult] = []
    with null_server() as null_target, LoadMaker(options.processes) as maker:
        for turn in range(rounds):
            part = msgspec.structs.replace(
                options,
                requests=options.requests // rounds + (1 if turn < options.requests % rounds else 0),
                duration_s=max(DURATION_S_MIN, options.duration_s / rounds),
            )
            targets.append(maker.run(part))
            nulls.append(maker.run(msgspec.structs.replace(part, target=null_target)))
            on_round(turn + 1)
    return Comparison(options, merge_runs(targets), merge_runs(nulls))


@contextlib.contextmanager
def null_server(response_bytes: int = 0) -> Iterator[str]:
    """Starts the null handler in a process of its own; gives its HOST:PORT. Raises LoadFailed if it does not start."""
    command = [sys.executable, "-m", "recserv.bench.null_server", "--response-bytes", str(response_bytes)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(BANNER):
            raise LoadFailed("the null handler does not start")
        yield line.removeprefix(BANNER).strip()
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
