"""What counts as a leak: growth that goes on, however far the samples lie apart; and not what comes back or stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import pytest

from tests.soak.resources import HANDLES, MEMORY, Sample, leaks, trend

MB = 1_000_000
SEEDS = range(50)
RESTS, REST_EVERY_S = 12, 33.0
LOADED, LOADED_EVERY_S = 60, 6.0


def at_rest(resident_mb: Sequence[float], malloc_mb: Sequence[float] | None = None) -> list[Sample]:
    malloc_mb = malloc_mb or [40.0] * len(resident_mb)
    return [
        Sample(number * REST_EVERY_S, round(resident * MB), round(malloc * MB), 500_000, 30, 20, 10)
        for number, (resident, malloc) in enumerate(zip(resident_mb, malloc_mb, strict=True))
    ]


def under_load(threads: Sequence[int], descriptors: Sequence[int] | None = None) -> list[Sample]:
    descriptors = descriptors or [60] * len(threads)
    return [
        Sample(number * LOADED_EVERY_S, 145 * MB, 40 * MB, 500_000, held, many, 10)
        for number, (many, held) in enumerate(zip(threads, descriptors, strict=True))
    ]


def noisy(seed: int, mb_a_minute: float = 0.0) -> list[float]:
    """Between 139 and 148 MB, as it was measured, and what leaks besides."""
    random = Random(seed)
    return [random.uniform(139, 148) + mb_a_minute * number * REST_EVERY_S / 60 for number in range(RESTS)]


def jumpy(seed: int) -> list[float]:
    """The same, but each stays for a while where the one before it was."""
    random, now, found = Random(seed), 143.0, []
    for _ in range(RESTS):
        now = random.uniform(139, 148) if random.random() < 0.3 else now
        found.append(now)
    return found


@pytest.mark.parametrize("series", [noisy, jumpy])
def test_memory_that_goes_up_and_down_is_no_leak(series: Callable[[int], list[float]]) -> None:
    assert {seed: found for seed in SEEDS if (found := leaks(at_rest(series(seed)), MEMORY))} == {}


@pytest.mark.parametrize(
    "resident_mb",
    [
        [139.0] * 4 + [170.0] * 4 + [139.0] * 4,
        [139.0] * 6 + [148.0] * 6,
        [139.0] * 11 + [170.0],
        [139.0] * RESTS,
        [170.0 - number for number in range(RESTS)],
    ],
    ids=["up and back", "up and no further", "up at last", "flat", "down"],
)
def test_memory_that_rises_in_steps_is_not_reported_as_a_leak(resident_mb: list[float]) -> None:
    assert leaks(at_rest(resident_mb), MEMORY) == []


def test_memory_that_leaks_under_the_same_noise_is_one() -> None:
    for seed in SEEDS:
        [found] = leaks(at_rest(noisy(seed, mb_a_minute=5.0)), MEMORY)
        assert found.startswith("resident bytes")


def test_a_leak_is_found_in_what_malloc_has_long_before_it_is_seen_in_resident_memory() -> None:
    # 70 bytes in each of 150 calls a second.
    malloc_mb = [40.0 + Random(number).uniform(0, 0.3) + 70 * 150 * number * REST_EVERY_S / MB for number in range(12)]
    [found] = leaks(at_rest(noisy(1), malloc_mb), MEMORY)
    assert found.startswith("bytes of malloc")


@pytest.mark.parametrize("after", [1, 20, 30, 50, 59])
def test_another_thread_or_two_that_stay_are_no_leak(after: int) -> None:
    for more in (1, 2):
        assert leaks(under_load([20] * after + [20 + more] * (LOADED - after)), HANDLES) == []


def test_one_more_thread_a_minute_is_reported_as_a_leak() -> None:
    for seed in SEEDS:
        random = Random(seed)
        threads = [20 + int(number * LOADED_EVERY_S / 60) + random.randrange(3) for number in range(LOADED)]
        [found] = leaks(under_load(threads), HANDLES)
        assert found.startswith("threads")


def test_descriptors_of_the_calls_that_are_open_are_no_leak_and_those_that_stay_are() -> None:
    for seed in SEEDS:
        random = Random(seed)
        descriptors = [60 + random.randrange(12) for _ in range(LOADED)]
        assert leaks(under_load([20] * LOADED, descriptors), HANDLES) == []
        left = [held + int(number * LOADED_EVERY_S / 20) for number, held in enumerate(descriptors)]
        [found] = leaks(under_load([20] * LOADED, left), HANDLES)
        assert found.startswith("descriptors")


def test_a_trend_is_a_line_and_what_lies_around_it() -> None:
    values = [100.0, 101.0, 102.0, 110.0, 104.0, 105.0]
    found = trend(at_rest(values), lambda entry: entry.resident_bytes / MB)
    assert found == pytest.approx((103.0, 5.0, 7.0))
