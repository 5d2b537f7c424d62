"""WatchRecommendations: a request in, an answer whenever it has changed.

Nobody waits for a page while a watch looks for changes, so its looks give way to other calls. While a look runs it
counts as a call inside; it takes its turn in the queue of full answers, and starts only if a call of its priority would
get a full answer. The first answer, for a caller that has none, is treated as a Recommend: it may be brief or rejected.
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
    """The method of the service. `budget_s`: time budget of each answer; `clock`: to check event times against."""

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
        # The watch may stay open for hours; its request need not stay in memory.
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
            # An invalid consistency token, which only the pipeline parses.
            raise with_prefix(error, "request") from None
        finally:
            control.leave()
