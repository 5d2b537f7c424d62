"""WatchRecommendations: a request in, an answer whenever it is another one.

A watch is nobody's wait for a page: its looks come after the calls of those who wait. They count as calls inside while
they last, take their turn in the same queue as full answers, and are begun only where a call of their priority would
get a full answer. The first answer of a caller that has none is what a Recommend would get, brief or rejected as it may
be.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from recserv import v1 as pb
from recserv.errors import InvalidInput, Overloaded
from recserv.pipeline.watch_answers import digest_of_token
from recserv.resilience.deadline import Deadline, MonotonicClock
from recserv.resilience.limiter import Verdict
from recserv.server.call import Call
from recserv.server.convert import SharedResults, query_from_wire, recommendation_to_wire
from recserv.server.overload import OverloadControl
from recserv.server.ports import Recommender, Watcher
from recserv.server.validate import check_watch, with_prefix
from recserv.types import Clock, Recommendation, RecommendQuery


class WatchMethod:
    """The method of the service. `budget_s` is what each answer may take; `clock` judges event times."""

    def __init__(
        self,
        watcher: Watcher,
        recommender: Recommender,
        control: OverloadControl,
        budget_s: float,
        *,
        clock: Clock,
        monotonic: MonotonicClock,
    ):
        self._watcher, self._recommender, self._control = watcher, recommender, control
        self._budget_s, self._clock, self._monotonic = budget_s, clock, monotonic
        self._shared_results = SharedResults()

    async def watch_recommendations(
        self, message: pb.WatchRecommendationsRequest, call: Call
    ) -> AsyncGenerator[pb.WatchRecommendationsResponse]:
        check_watch(message, self._clock())
        call.named(message.request.request_id)
        last = digest_of_token(message.resume_token) if message.resume_token else b""
        query = query_from_wire(message.request, call.tenant)
        # It may stay open for hours, and what was sent is as large as its caller likes.
        del message
        answers = self._watcher.watch(query, last, self._look)
        try:
            async for answer, token in answers:
                response = recommendation_to_wire(answer, self._shared_results)
                yield pb.WatchRecommendationsResponse(response=response, resume_token=token)
                del answer, response
        finally:
            await answers.aclose()

    async def _look(self, query: RecommendQuery, first: bool) -> Recommendation | None:
        control = self._control
        if not first and not control.has_room(query.priority):
            return None
        control.enter()
        try:
            found = control.judge(query.priority) if first else Verdict.FULL
            if found is Verdict.REJECT:
                raise Overloaded("the server is busy")
            await control.wait(found)
            deadline = Deadline(self._budget_s, self._monotonic)
            return await self._recommender.recommend(query, deadline, overloaded=found is Verdict.BRIEF)
        except InvalidInput as error:
            # Of the consistency token, which the pipeline reads.
            raise with_prefix(error, "request") from None
        finally:
            control.leave()
