"""Load against a server on this machine, made by processes of its own.

    LoadOptions -> split -> run_share in each process -> merge -> LoadResult

`LoadMaker` keeps the processes between runs, so that measurements of two servers can alternate. Only loopback targets
are accepted: this is a measuring tool, not one to point at somebody's shop.
"""

from __future__ import annotations

import ipaddress
import multiprocessing
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType

import msgspec

from recserv.bench.histogram import Histogram
from recserv.bench.worker import OK, Sample, Share, ShareResult, run_share
from recserv.errors import RecservError, UsageError

REQUESTS_MAX = 10_000_000
DURATION_S_MIN = 0.1
DURATION_S_MAX = 3600.0
CONCURRENCY_MAX = 1000
PROCESSES_MAX = 16
SAMPLES_MAX = 200_000


class LoadFailed(RecservError):
    """The load could not be made: a process of it died, or the server never answered."""

    reason = "LOAD_FAILED"


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`concurrency`, `connections` and `rate_per_s` (None: closed loop) are totals over all processes. `poisson`:
    arrivals of an open loop are drawn by `seed`, else evenly spaced. `samples`: the result has every call by itself.
    `metadata`: of every call.
    """

    target: str
    bodies: tuple[bytes, ...]
    requests: int = 1000
    duration_s: float = 60.0
    warmup: int = 20
    concurrency: int = 1
    connections: int = 1
    processes: int = 1
    rate_per_s: float | None = None
    timeout_s: float = 5.0
    poisson: bool = False
    seed: int = 1
    samples: bool = False
    metadata: tuple[tuple[str, str], ...] = ()


class LoadResult(msgspec.Struct, frozen=True):
    """`latencies_of` every status, rejections too. `degraded` counts OK answers that say so, `reasons` each reason of
    theirs. `rate_per_s` is goodput: OK answers, full and degraded, per second. `samples` are in the order in which
    calls were due.
    """

    latencies_of: dict[str, Histogram]
    rate_per_s: float
    degraded: int
    reasons: Counter[str]
    samples: tuple[Sample, ...]

    @property
    def latencies(self) -> Histogram:
        """Of the OK answers."""
        return self.latencies_of.get(OK, Histogram())

    @property
    def statuses(self) -> Counter[str]:
        return Counter({status: histogram.count for status, histogram in self.latencies_of.items()})

    @property
    def succeeded(self) -> int:
        return self.statuses[OK]

    @property
    def failed(self) -> int:
        return self.statuses.total() - self.succeeded


_NOT_HERE = (
    "{} is not a loopback address (127.0.0.1:PORT): bench loads servers of this machine alone, because a flood of calls"
    " is not for a server that others use, and the handler beside which it measures runs here"
)


def check_options(options: LoadOptions) -> None:
    """Raises UsageError with every problem at once."""
    problems = [] if is_loopback(options.target) else [_NOT_HERE.format(options.target)]
    ranges = {
        "requests": (options.requests, 1, REQUESTS_MAX),
        "duration": (options.duration_s, DURATION_S_MIN, DURATION_S_MAX),
        "concurrency": (options.concurrency, 1, CONCURRENCY_MAX),
        "connections": (options.connections, 1, options.concurrency),
        "processes": (options.processes, 1, min(PROCESSES_MAX, options.connections)),
        "rate": (1.0 if options.rate_per_s is None else options.rate_per_s, 0.01, 1e6),
        "timeout": (options.timeout_s, 0.001, 600.0),
    }
    for name, (value, lowest, highest) in ranges.items():
        if not lowest <= value <= highest:
            problems.append(f"{name} must be {lowest:g} to {highest:g}, not {value:g}")
    if options.samples and options.requests > SAMPLES_MAX:
        problems.append(f"at most {SAMPLES_MAX} requests can be told one by one, not {options.requests}")
    if problems:
        raise UsageError("; ".join(problems))


def is_loopback(target: str) -> bool:
    """True for HOST:PORT where HOST is `localhost` or a loopback address in figures: nothing is looked up."""
    host, colon, port = target.rpartition(":")
    if not colon or not port.isdigit():
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def split(options: LoadOptions) -> list[Share]:
    """Shares for the processes that add up to the whole; each works through its own part of the bodies."""
    parts = min(options.processes, options.requests)
    return [
        Share(
            target=options.target,
            bodies=options.bodies[part::parts] or options.bodies,
            requests_max=_part(options.requests, part, parts),
            duration_s_max=options.duration_s,
            warmup=options.warmup,
            concurrency=_part(options.concurrency, part, parts),
            connections=_part(options.connections, part, parts),
            rate_per_s=None if options.rate_per_s is None else options.rate_per_s / parts,
            timeout_s=options.timeout_s,
            poisson=options.poisson,
            seed=options.seed * PROCESSES_MAX + part,
            phase=part / parts,
            samples=options.samples,
            metadata=options.metadata,
        )
        for part in range(parts)
    ]


def _part(total: int, part: int, parts: int) -> int:
    return total // parts + (1 if part < total % parts else 0)


def merge(results: Sequence[ShareResult]) -> LoadResult:
    """What processes measured at the same time."""
    latencies_of: dict[str, Histogram] = {}
    reasons = Counter[str]()
    rate_per_s, degraded = 0.0, 0
    for result in results:
        _add(latencies_of, result.latencies)
        reasons.update(result.reasons)
        degraded += result.degraded
        rate_per_s += result.statuses[OK] / result.elapsed_s if result.elapsed_s > 0 else 0.0
    samples = tuple(sorted((sample for result in results for sample in result.samples), key=lambda one: one.due_s))
    return LoadResult(latencies_of, rate_per_s, degraded, reasons, samples)


def merge_runs(runs: Sequence[LoadResult]) -> LoadResult:
    """Several runs of the same options, one after the other, as one."""
    latencies_of: dict[str, Histogram] = {}
    reasons = Counter[str]()
    for run in runs:
        _add(latencies_of, run.latencies_of)
        reasons.update(run.reasons)
    samples = tuple(sample for run in runs for sample in run.samples)
    rate_per_s = sum(run.rate_per_s for run in runs) / len(runs)
    return LoadResult(latencies_of, rate_per_s, sum(run.degraded for run in runs), reasons, samples)


def _add(into: dict[str, Histogram], more: Mapping[str, Histogram]) -> None:
    for status, histogram in more.items():
        into.setdefault(status, Histogram()).add(histogram)


class LoadMaker:
    """The processes that make the load; a context manager that ends them."""

    def __init__(self, processes: int):
        # Spawned, not forked: gRPC objects do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, mp_context=context)

    def __enter__(self) -> LoadMaker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, options: LoadOptions) -> LoadResult:
        """Makes the load and waits for its end. Raises UsageError for options out of range, else LoadFailed."""
        check_options(options)
        give_up_s = options.duration_s + options.timeout_s * (options.warmup + 1) + 30.0
        futures = [self._pool.submit(run_share, share) for share in split(options)]
        try:
            return merge([future.result(timeout=give_up_s) for future in futures])
        except (TimeoutError, OSError, RuntimeError) as error:
            raise LoadFailed(f"no load on {options.target}: {error or type(error).__name__}") from error
