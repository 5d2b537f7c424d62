from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import islice

import grpc
import numpy as np
import pytest

from recserv import v1 as pb
from recserv.bench import worker
from recserv.bench.compare import compare, null_server
from recserv.bench.load import LoadFailed, LoadMaker, LoadOptions, check_options, is_loopback, merge, merge_runs, split
from recserv.bench.worker import Sample, ShareResult, arrivals
from recserv.errors import UsageError
from tests.client.scripted import Step, scripted
from tests.patience import HANG_GUARD_S
from tests.server.harness import StillClock

BODIES = (b"one", b"two", b"three")
PATIENT = {"timeout_s": HANG_GUARD_S, "duration_s": 10 * HANG_GUARD_S}


def _options(target: str = "127.0.0.1:1", **changes: object) -> LoadOptions:
    return LoadOptions(**{**PATIENT, "target": target, "bodies": BODIES, "requests": 40, "warmup": 2, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["127.0.0.1:80", "127.9.9.9:1", "localhost:50051", "[::1]:443", "::1:443"])
def test_loopback_targets_are_taken(target: str) -> None:
    assert is_loopback(target)


@pytest.mark.parametrize(
    "target",
    ["10.0.0.1:80", "example.com:80", "0.0.0.0:80", "127.0.0.1", "127.0.0.1:", "localhost.example.com:1", ":80", ""],
)
def test_other_targets_are_refused(target: str) -> None:
    with pytest.raises(UsageError, match=r"loopback address.*bench loads servers of this machine alone, because"):
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


class _StallingServer:
    """A channel's other end: it answers at once, but for the first call, which takes as long as ten intervals."""

    def __init__(self) -> None:
        self.clock, self.stalls_s = StillClock(), [0.01]

    def unary_unary(self, *_: object) -> Callable[..., Awaitable[bytes]]:
        async def call(*_: object, **__: object) -> bytes:
            if self.stalls_s:
                self.clock.now_s += self.stalls_s.pop()
            return b""

        return call


async def test_in_an_open_loop_a_stall_is_charged_to_every_request_that_was_due() -> None:
    server, rate_per_s = _StallingServer(), 1000.0
    share = split(_options(requests=10, rate_per_s=rate_per_s, samples=True))[0]
    caller = worker._Caller(share, [server], server.clock)  # type: ignore[list-item]
    await worker._open_loop(caller, share, 0.0, rate_per_s, server.clock)
    assert [sample.due_s for sample in caller.result.samples] == pytest.approx([n / rate_per_s for n in range(10)])
    waits_s = [sample.latency_s for sample in caller.result.samples]
    assert waits_s == pytest.approx([0.01 - n / rate_per_s for n in range(10)])


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
    await worker._closed_loop(caller, share, worker.time.monotonic())  # type: ignore[arg-type]
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


def _measured(elapsed_s: float, *calls: tuple[str, float, tuple[str, ...]]) -> ShareResult:
    result = ShareResult()
    for number, (status, latency_s, reasons) in enumerate(calls):
        result.record(Sample(float(number), latency_s, status, reasons), keep=True)
    result.elapsed_s = elapsed_s
    return result


def test_goodput_counts_answers_full_and_degraded_and_rejections_keep_their_own_latencies() -> None:
    result = merge(
        [
            _measured(2.0, ("OK", 0.1, ()), ("OK", 0.2, ("DEADLINE", "OVERLOAD")), ("RESOURCE_EXHAUSTED", 0.001, ())),
            _measured(1.0, ("OK", 0.3, ("OVERLOAD",))),
        ]
    )
    assert (result.succeeded, result.failed, result.rate_per_s) == (3, 1, 2.0)
    assert (result.degraded, result.reasons) == (2, Counter(OVERLOAD=2, DEADLINE=1))
    assert result.latencies.count == 3
    assert result.latencies_of["RESOURCE_EXHAUSTED"].max_s == 0.001
    assert [sample.due_s for sample in result.samples] == [0.0, 0.0, 1.0, 2.0]


def test_runs_one_after_the_other_count_as_one_at_their_mean_rate() -> None:
    ok, down = ("OK", 0.1, ()), ("UNAVAILABLE", 0.1, ())
    merged = merge_runs([merge([_measured(0.2, ok, ok)]), merge([_measured(0.15, ok, ok, ok, down)])])
    assert (merged.succeeded, merged.failed, merged.rate_per_s) == (5, 1, pytest.approx(15.0))


def test_even_arrivals_of_several_processes_interleave() -> None:
    shares = split(_options(requests=8, connections=2, concurrency=2, processes=2, rate_per_s=100.0))
    due = sorted(after_s for share in shares for after_s in islice(arrivals(share, share.rate_per_s or 0.0), 4))
    assert due == pytest.approx([number / 100.0 for number in range(8)])


def test_poisson_arrivals_have_their_rate_and_their_spread_and_differ_between_processes() -> None:
    options = _options(requests=8, connections=2, concurrency=2, processes=2, rate_per_s=100.0, poisson=True)
    shares = split(options)
    first, other = [list(islice(arrivals(share, 50.0), 5000)) for share in shares]
    gaps = np.diff(first)
    # The gaps of a Poisson process: mean and standard deviation are equal.
    assert gaps.mean() == pytest.approx(1 / 50.0, rel=0.1)
    assert gaps.std() == pytest.approx(1 / 50.0, rel=0.1)
    assert first != other
    assert first == list(islice(arrivals(split(options)[0], 50.0), 5000))


def test_each_call_can_be_told_by_itself_with_why_it_was_degraded() -> None:
    reasons = [pb.DEGRADED_REASON_DEADLINE, pb.DEGRADED_REASON_STATE_UNAVAILABLE]
    answers = [
        pb.RecommendResponse(),
        pb.RecommendResponse(degraded=True, degraded_reasons=reasons),
        pb.RecommendResponse(degraded=True),
    ]
    with scripted(*[Step(answer=answer.SerializeToString()) for answer in answers]) as server, LoadMaker(1) as maker:
        result = maker.run(_options(server.address, requests=4, warmup=0, samples=True))
    assert [sample.reasons for sample in result.samples] == [(), ("DEADLINE", "STATE_UNAVAILABLE"), ("UNLABELLED",), ()]
    assert (result.degraded, result.succeeded) == (2, 4)
    assert all(sample.latency_s > 0 for sample in result.samples)
    assert max(sample.latency_s for sample in result.samples) == result.latencies.max_s


def test_an_overload_is_reported_with_its_rejections() -> None:
    steps = [Step(grpc.StatusCode.RESOURCE_EXHAUSTED) for _ in range(3)]
    with scripted(*steps) as server, LoadMaker(1) as maker:
        result = maker.run(_options(server.address, requests=10, warmup=0, rate_per_s=200.0, concurrency=10))
    assert result.statuses == Counter(OK=7, RESOURCE_EXHAUSTED=3)
    assert result.latencies_of["RESOURCE_EXHAUSTED"].count == 3
