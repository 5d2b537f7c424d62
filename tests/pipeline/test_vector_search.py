from __future__ import annotations

import threading

import numpy as np
import pytest

from recserv.pipeline.vector_search import QUARANTINE_S, SLOW_S, SLOW_STREAK, VectorSearch

QUERY = np.ones(2, np.float32)
ANSWER = (np.array([1], np.int32), np.array([1.0], np.float32))


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class TimedIndex:
    """Each search takes `takes_s` of the clock; notes the thread that it ran on."""

    size, dimensions = 10, 2

    def __init__(self, clock: Clock, bounded: bool):
        self.clock, self.bounded, self.takes_s = clock, bounded, 0.0
        self.threads: list[str] = []

    def search(self, query, k, near=None):
        self.threads.append(threading.current_thread().name)
        self.clock.now_s += self.takes_s
        return ANSWER


async def searched(search: VectorSearch) -> None:
    assert (search.now(QUERY, 1) if search.on_the_spot else await search.later(QUERY, 1)) is ANSWER


@pytest.mark.parametrize(("bounded", "where"), [(True, "MainThread"), (False, "recserv-search")])
async def test_an_index_that_may_wait_is_searched_on_a_thread_of_its_own(bounded, where):
    clock = Clock()
    index = TimedIndex(clock, bounded)
    search = VectorSearch(index, clock=clock)
    await searched(search)
    search.close()
    assert index.threads == [where]


async def test_after_a_few_slow_searches_the_loop_is_spared_for_a_while():
    clock = Clock()
    index = TimedIndex(clock, bounded=True)
    search = VectorSearch(index, clock=clock)
    index.takes_s = 2 * SLOW_S
    for _ in range(SLOW_STREAK + 1):
        await searched(search)
    clock.now_s += QUARANTINE_S
    index.takes_s = 0.0
    await searched(search)
    await searched(search)
    search.close()
    assert index.threads == ["MainThread"] * SLOW_STREAK + ["recserv-search"] + ["MainThread"] * 2


async def test_one_slow_search_alone_is_forgiven():
    clock = Clock()
    index = TimedIndex(clock, bounded=True)
    search = VectorSearch(index, clock=clock)
    for takes_s in (2 * SLOW_S, 0.0) * SLOW_STREAK:
        index.takes_s = takes_s
        await searched(search)
    search.close()
    assert set(index.threads) == {"MainThread"}
