from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from recserv.bench import worker
from recserv.bench.compare import compare, null_server
from recserv.bench.histogram import Histogram
from recserv.bench.load import LoadFailed, LoadMaker, LoadOptions, check_options, is_loopback, merge_runs, split
from recserv.errors import UsageError

BODIES = (b"one", b"two", b"three")


def _options(target: str = "127.0.0.1:1", **changes: object) -> LoadOptions:
    return LoadOptions(**{"target": target, "bodies": BODIES, "requests": 40, "warmup": 2, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["127.0.0.1:80", "127.9.9.9:1", "localhost:50051", "[::1]:443", "::1:443"])
def test_loopback_targets_are_taken(target: str) -> None:
    assert is_loopback(target)


@pytest.mark.parametrize(
    "target",
    ["10.0.0.1:80", "example.com:80", "0.0.0.0:80", "127.0.0.1", "127.0.0.1:", "localhost.example.com:1", ":80", ""],
)
def test_other_targets_are_refused(target: str) -> None:
    with pytest.raises(UsageError, match="loopback"):
        check_options(_options(target))


def test_every_option_out_of_range_is_named_at_once() -> None:
    with pytest.raises(UsageError, match=r"requests.*duration.*concurrency.*rate"):
        check_options(_options(requests=0, duration_s=float("nan"), concurrency=-1, rate_per_s=float("inf")))


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_the_shares_add_up_to_the_whole(processes: int) -> None:
    options = _options(requests=17, concurrency=9, connections=8, processes=processes, rate_per_s=100.0)
    shares = split(options)
    assert sum(share.requests_max for share in shares) == 17
    assert sum(share.concurrency for share in shares) == 9
    assert sum(share.connections for share in shares) == 8
    assert sum(share.rate_per_s or 0.0 for share in shares) == pytest.approx(100.0)
    assert {body for share in shares for body in share.bodies} == set(BODIES)


class _StallingCaller:
    """Answers at once, but for the first call, which takes as long as ten intervals."""

    def __init__(self) -> None:
        self.counts_from_s: list[float] = []

    async def call(self, counts_from_s: float) -> None:
        self.counts_from_s.append(counts_from_s)
        if len(self.counts_from_s) == 1:
            await asyncio.sleep(0.01)


async def test_in_an_open_loop_a_stall_is_charged_to_every_request_that_was_due() -> None:
    caller, rate_per_s = _StallingCaller(), 1000.0
    share = split(_options(requests=10, rate_per_s=rate_per_s))[0]
    started_s = worker.time.perf_counter()
    await worker._open_loop(caller, share, started_s, rate_per_s)  # type: ignore[arg-type]
    due = [started_s + number / rate_per_s for number in range(10)]
    assert caller.counts_from_s == pytest.approx(due, abs=1e-9)


async def test_a_closed_loop_never_has_more_calls_out_than_its_concurrency() -> None:
    class Counting:
        out = most = done = 0

        async def call(self, counts_from_s: float) -> None:
            self.out += 1
            self.most = max(self.most, self.out)
            await asyncio.sleep(0)
            self.out -= 1
            self.done += 1

    caller = Counting()
    share = split(_options(requests=25, concurrency=4, connections=1))[0]
    await worker._closed_loop(caller, share, worker.time.perf_counter())  # type: ignore[arg-type]
    assert (caller.most, caller.done) == (4, 25)


@pytest.mark.parametrize("rate_per_s", [None, 400.0])
def test_a_comparison_sends_the_requests_asked_for_to_both_servers(rate_per_s: float | None) -> None:
    turns: list[int] = []
    with null_server(response_bytes=100) as target:
        options = _options(target, requests=41, concurrency=4, connections=2, rate_per_s=rate_per_s)
        comparison = compare(options, rounds=2, on_round=turns.append)
    assert comparison.target.statuses == comparison.null.statuses == Counter(OK=41)
    assert comparison.target.latencies.count == 41
    assert turns == [1, 2]
    assert comparison.ratio(0.5) > 0


def test_a_target_that_does_not_listen_is_an_error_not_a_hang() -> None:
    with LoadMaker(1) as maker, pytest.raises(LoadFailed):
        maker.run(_options("127.0.0.1:1", timeout_s=0.2))


def test_runs_one_after_the_other_count_as_one_at_their_mean_rate() -> None:
    from recserv.bench.load import LoadResult

    runs = [LoadResult(Histogram(), Counter(OK=2), 10.0), LoadResult(Histogram(), Counter(OK=3, UNAVAILABLE=1), 20.0)]
    merged = merge_runs(runs)
    assert (merged.succeeded, merged.failed, merged.rate_per_s) == (5, 1, 15.0)
