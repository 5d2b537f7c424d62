"""The methods of RecommendationService: a parsed message in, a message out, and no gRPC in between.

Each one validates, converts, calls the part behind it and converts back. The interceptor turns errors into statuses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple

from google.rpc.status_pb2 import Status

from recserv import v1 as pb
from recserv.errors import DeadlineTooNear, InvalidInput, Overloaded, StoreUnavailable, Violation
from recserv.logs import UserTag
from recserv.metrics import EventMetrics
from recserv.resilience.limiter import Verdict
from recserv.server.admission import Admission
from recserv.server.call import Call, log_failure, within
from recserv.server.convert import (
    SharedResults,
    context_to_wire,
    enum,
    event_from_wire,
    explanation_to_wire,
    explanations_to_wire,
    query_from_wire,
    recommendation_to_wire,
)
from recserv.server.ports import Explanations, Ingestor, Outcome, Recommender
from recserv.server.status import status_of
from recserv.server.validate import (
    check_count,
    check_event,
    check_recommend,
    check_shopper,
    check_token,
    is_plain_event,
    with_prefix,
)
from recserv.types import (
    BATCH_EVENTS_MAX,
    BATCH_REQUESTS_MAX,
    ID_BYTES_MAX,
    Clock,
    IngestStatus,
    Recommendation,
    ShopperKey,
)

logger = logging.getLogger("recserv.server")

DEGRADED_KEY = "x-recserv-degraded"
"""Trailing metadata: the degraded reasons, without their prefix."""
BATCH_RECOMMEND_AT_ONCE = 8


class Room(NamedTuple):
    """What a Recommend may get by its priority and its turn, and the time budgets of it and of a group of events."""

    judge: Callable[[int], Verdict]
    wait: Callable[[Verdict], Awaitable[None]]
    budget_s: float
    group_s: float


class Servicer:
    """`clock`: the server's wall clock, to check event times against. `tag` makes pseudonyms of shoppers for logs."""

    def __init__(
        self,
        recommender: Recommender,
        ingestor: Ingestor,
        explanations: Explanations,
        admission: Admission,
        room: Room,
        events: EventMetrics,
        clock: Clock,
        tag: UserTag,
    ):
        self._room = room
        self._shared_results = SharedResults()
        self._tag = tag
        self._recommender, self._ingestor, self._explanations = recommender, ingestor, explanations
        self._admission, self._events, self._clock = admission, events, clock

    async def recommend(self, request: pb.RecommendRequest, call: Call) -> pb.RecommendResponse:
        check_recommend(request, self._clock())
        call.named(request.request_id)
        answer = await self._answer(request, call)
        if answer.degraded_reasons:
            call.degraded = (DEGRADED_KEY, ",".join([reason.name for reason in answer.degraded_reasons]))
        if logger.isEnabledFor(logging.DEBUG):
            self._log_answer(request, call, answer)
        return recommendation_to_wire(answer, self._shared_results)

    async def _answer(self, request: pb.RecommendRequest, call: Call) -> Recommendation:
        """An answer within the server's budget for a Recommend; under overload popular items, or raises Overloaded."""
        found = self._room.judge(request.priority)
        if found is Verdict.REJECT:
            raise Overloaded("the server is busy")
        query, deadline = query_from_wire(request, call.tenant), call.deadline.within(self._room.budget_s)
        await self._room.wait(found)
        return await self._recommender.recommend(query, deadline, overloaded=found is Verdict.BRIEF)

    def _log_answer(self, request: pb.RecommendRequest, call: Call, answer: Recommendation) -> None:
        fields = {
            "request_id": call.request_id(),
            "recommendation_id": answer.recommendation_id,
            "session": self._tag(request.session_id),
            "user": self._tag(request.user_id),
            "results": len(answer.results),
            "degraded": [reason.name for reason in answer.degraded_reasons],
        }
        logger.debug("recommended", extra={"fields": fields})

    async def batch_recommend(self, batch: pb.BatchRecommendRequest, call: Call) -> pb.BatchRecommendResponse:
        """Each entry succeeds or fails by itself. A few run at once, and each of these counts as a call in flight."""
        check_count("requests", len(batch.requests), BATCH_REQUESTS_MAX)
        at_once = min(BATCH_RECOMMEND_AT_ONCE, len(batch.requests), self._admission.recommends.limit)
        self._admission.recommends.enter(at_once - 1)
        try:
            places = asyncio.Semaphore(at_once)
            entries = await asyncio.gather(
                *[self._entry(index, request, call, places) for index, request in enumerate(batch.requests)]
            )
        finally:
            self._admission.recommends.leave(at_once - 1)
        succeeded = [entry.response for entry in entries if entry.HasField("response")]
        summary = pb.BatchSummary(
            total=len(entries),
            succeeded=len(succeeded),
            failed=len(entries) - len(succeeded),
            degraded=sum(response.degraded for response in succeeded),
        )
        return pb.BatchRecommendResponse(responses=entries, summary=summary)

    async def _entry(
        self, index: int, request: pb.RecommendRequest, call: Call, places: asyncio.Semaphore
    ) -> pb.BatchRecommendEntry:
        async with places:
            # Yields to other calls between two entries, even if neither of them awaits anything.
            await asyncio.sleep(0)
            try:
                check_recommend(request, self._clock())
                answer = await self._answer(request, call)
            except InvalidInput as error:
                return self._failed_entry(index, request, call, with_prefix(error, f"requests[{index}]"))
            except Exception as error:
                return self._failed_entry(index, request, call, error)
            return pb.BatchRecommendEntry(response=recommendation_to_wire(answer, self._shared_results))

    def _failed_entry(
        self, index: int, request: pb.RecommendRequest, call: Call, error: Exception
    ) -> pb.BatchRecommendEntry:
        request_id = request.request_id[:ID_BYTES_MAX] or call.request_id()
        log_failure(f"{call.rpc}[{index}]", error, request_id)
        return pb.BatchRecommendEntry(error=status_of(error, request_id))

    async def ingest_event(self, request: pb.IngestEventRequest, call: Call) -> pb.IngestEventResponse:
        if not request.HasField("event"):
            raise InvalidInput([Violation("event", "is required", "REQUIRED")])
        self._check_event(request.event, None, self._clock())
        [outcome] = await self._ingestor.ingest(call.tenant, (event_from_wire(request.event),))
        if outcome.error is not None:
            try:
                raise outcome.error
            finally:
                # Breaks a reference cycle: the error's traceback refers to this frame.
                del outcome
        return pb.IngestEventResponse(status=enum(outcome.status), consistency_token=outcome.consistency_token)

    async def batch_ingest_events(
        self, request: pb.BatchIngestEventsRequest, call: Call
    ) -> pb.BatchIngestEventsResponse:
        check_count("events", len(request.events), BATCH_EVENTS_MAX)
        return pb.BatchIngestEventsResponse(results=await self._ingest(request.events, call))

    async def stream_group(self, request: pb.StreamEventsRequest, call: Call) -> pb.StreamEventsResponse:
        """A group of StreamEvents. A group that is too large ends the stream; a bad event in it does not."""
        check_count("events", len(request.events), BATCH_EVENTS_MAX)
        # A group has no deadline of its own, and its stream may stay open for hours.
        seconds = self._room.group_s
        if call.client_deadline:
            seconds = min(seconds, call.deadline.remaining_s())
        late = DeadlineTooNear("the group was not stored in time")
        try:
            results = await within(seconds, self._ingest(request.events, call), late)
        except DeadlineTooNear:
            # Whether they were stored is unknown; sending them again with the same ids settles it.
            status = status_of(StoreUnavailable("the store did not answer in time; send the event again"))
            results = [
                pb.IngestResult(event_id=event.event_id, status=enum(IngestStatus.REJECTED), error=status)
                for event in request.events
            ]
        finally:
            del late
        return pb.StreamEventsResponse(results=results)

    async def _ingest(self, events: Sequence[pb.Event], call: Call) -> list[pb.IngestResult]:
        """A result for each event, in order. The valid events go to the store in one batch."""
        now_ms = self._clock()
        refused: dict[int, Status] = {}
        valid = []
        for index, event in enumerate(events):
            try:
                self._check_event(event, index, now_ms)
            except InvalidInput as error:
                # Not the error itself: its traceback refers to this frame.
                refused[index] = status_of(error, call.request_id())
            else:
                valid.append(event_from_wire(event))
        outcomes = iter(await self._ingestor.ingest(call.tenant, valid) if valid else ())
        results = []
        for index, event in enumerate(events):
            status = refused.get(index)
            if status is None:
                results.append(_result(event.event_id, next(outcomes), call.request_id))
            else:
                results.append(
                    pb.IngestResult(
                        # The id may be what is invalid: the answer must not outgrow what a client accepts.
                        event_id=event.event_id[:ID_BYTES_MAX],
                        status=enum(IngestStatus.REJECTED),
                        error=status,
                    )
                )
        return results

    def _check_event(self, event: pb.Event, index: int | None, now_ms: int) -> None:
        """`index`: the event's place in its group."""
        if is_plain_event(event, now_ms):
            return
        try:
            check_event(event, "event" if index is None else f"events[{index}]", now_ms)
        except InvalidInput as error:
            self._events.outcome(event.event_type, error.reason.lower())
            raise

    async def get_context(self, request: pb.GetContextRequest, call: Call) -> pb.GetContextResponse:
        check_shopper(request)
        key = ShopperKey(session_id=request.session_id, user_id=request.user_id)
        return context_to_wire(await self._recommender.context(call.tenant, key, call.deadline))

    async def get_explanations(self, request: pb.GetExplanationsRequest, call: Call) -> pb.GetExplanationsResponse:
        check_token("explanation_token", request.explanation_token)
        return explanations_to_wire(await self._explanations.explanations(call.tenant, request.explanation_token))

    async def watch_explanations(
        self, request: pb.WatchExplanationsRequest, call: Call
    ) -> AsyncGenerator[pb.WatchExplanationsResponse, None]:
        check_token("explanation_token", request.explanation_token)
        async for explanation in self._explanations.watch(call.tenant, request.explanation_token):
            yield pb.WatchExplanationsResponse(explanation=explanation_to_wire(explanation))


def _result(event_id: str, outcome: Outcome, request_id: Callable[[], str]) -> pb.IngestResult:
    if outcome.error is None:
        return pb.IngestResult(
            event_id=event_id, status=enum(outcome.status), consistency_token=outcome.consistency_token
        )
    return pb.IngestResult(
        event_id=event_id, status=enum(IngestStatus.REJECTED), error=status_of(outcome.error, request_id())
    )
