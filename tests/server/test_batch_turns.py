"""A batch of recommendations leaves the event loop to others between its entries. In turns of the loop, not in time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from recserv import v1 as pb
from recserv.logs import UserTag
from recserv.metrics import EventMetrics, Metrics
from recserv.server.admission import Admission
from recserv.server.call import Call
from recserv.server.overload import OverloadControl
from recserv.server.servicer import BATCH_RECOMMEND_AT_ONCE, Room, Servicer
from recserv.types import BATCH_REQUESTS_MAX, PAGE_SIZE_MAX, RecommendQuery
from tests.patience import HANG_GUARD_S
from tests.server.harness import NOW_MS, answer
from tests.server.test_overload import Rig

WORK_S = 0.001


class Recommender:
    """Answers without a pause, as the pipeline does with a session in memory; by the clock of `rig` it takes time."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.answered: list[str] = []

    async def recommend(self, query: RecommendQuery, *_: Any, **__: Any) -> Any:
        self._rig.clock.now_s += WORK_S
        self.answered.append(query.session_id)
        return answer()


class Context:
    def time_remaining(self) -> float:
        return 60.0

    def invocation_metadata(self) -> None:
        return None


class Served:
    def __init__(self, limit: float) -> None:
        self.rig = Rig(limit)
        self.recommender = Recommender(self.rig)
        nobody: Any = None
        self.servicer = Servicer(
            self.recommender,  # type: ignore[arg-type]
            nobody,
            nobody,
            Admission(256, 1),
            Room(self.control.judge, self.control.wait, HANG_GUARD_S, HANG_GUARD_S),
            EventMetrics(Metrics()),
            lambda: NOW_MS,
            UserTag(),
        )

    @property
    def control(self) -> OverloadControl:
        return self.rig.control

    async def call(self, method: str, request: Any) -> Any:
        """As the interceptor does it."""
        self.control.enter()
        try:
            return await getattr(self.servicer, method)(request, Call(method, Context(), 1.0))
        finally:
            self.control.leave()


def batch(**fields: Any) -> pb.BatchRecommendRequest:
    return pb.BatchRecommendRequest(requests=[pb.RecommendRequest(session_id="batch", **fields)] * BATCH_REQUESTS_MAX)


# In the second case the limit is such that the answers are popular items, of which a turn has room for a few.
@pytest.mark.parametrize("limit", [1_000.0, 1.0])
async def test_a_recommend_that_comes_during_a_batch_is_answered_before_its_end(limit: float) -> None:
    served = Served(limit)
    running = asyncio.create_task(served.call("batch_recommend", batch()))
    while not served.recommender.answered:
        await asyncio.sleep(0)
    before = len(served.recommender.answered)
    assert before <= BATCH_RECOMMEND_AT_ONCE
    await served.call("recommend", pb.RecommendRequest(session_id="single"))
    assert not running.done()
    await running
    order = served.recommender.answered
    assert len(order) == BATCH_REQUESTS_MAX + 1
    # Those entries that waited for their turn already, and hardly more.
    assert order.index("single") <= before + 2 * BATCH_RECOMMEND_AT_ONCE


async def test_entries_that_are_refused_leave_the_loop_to_others_too() -> None:
    served, turns = Served(1_000.0), 0
    running = asyncio.create_task(served.call("batch_recommend", batch(page_size=PAGE_SIZE_MAX + 1)))
    while not running.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await running).summary.failed == BATCH_REQUESTS_MAX
    assert turns >= BATCH_REQUESTS_MAX / BATCH_RECOMMEND_AT_ONCE
