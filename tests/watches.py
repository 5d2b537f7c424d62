"""A server that keeps the contract of WatchRecommendations, and breaks as it is told to.

A session's list is its events' items, the newest first. `python -m tests.watches` serves it and prints its address.
"""

from __future__ import annotations

import hashlib
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from recserv import v1 as pb
from tests.patience import HANG_GUARD_S

POPULAR = ("popular",)
LIST_MAX = 3


class Failure(NamedTuple):
    """`reason`: of an ErrorInfo. None of both: as if gRPC itself had failed."""

    code: grpc.StatusCode
    retry_ms: int | None = None
    reason: str = ""

    def status(self) -> Any:
        status = status_pb2.Status(code=self.code.value[0], message="as the test wants it")
        if self.retry_ms is None and not self.reason:
            return rpc_status.to_status(status)._replace(trailing_metadata=())
        if self.retry_ms is not None:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(self.retry_ms)
            status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        if self.reason:
            status.details.add().Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain="recserv"))
        return rpc_status.to_status(status)


def token_of(items: tuple[str, ...]) -> str:
    """The same at every server."""
    return "t-" + hashlib.sha256(repr(items).encode()).hexdigest()[:12]


class FakeWatches(pb.RecommendationServiceServicer):
    """`requests`: of the watches, in their order. `failures`: what the next of them meet. `repeats`: it answers a
    resumed watch at once, as a server that lost track would. `answers`: those that were sent otherwise.
    """

    def __init__(self) -> None:
        self.address = ""
        self._changed = threading.Condition()
        self._lists: dict[str, tuple[str, ...]] = {}
        self._ending: Failure | None = None
        self._ends = 0
        self.requests: list[pb.WatchRecommendationsRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self.failures: list[Failure] = []
        self.repeats = False
        self.open = self.answers = 0
        self.opened = threading.Semaphore(0)
        self.closed = threading.Semaphore(0)

    def change(self, session_id: str, item_id: str) -> None:
        with self._changed:
            self._lists[session_id] = (item_id, *self._lists.get(session_id, POPULAR))[:LIST_MAX]
            self._changed.notify_all()

    def end_all(self, failure: Failure) -> None:
        """Of the watches that are open."""
        with self._changed:
            self._ending, self._ends = failure, self._ends + 1
            self._changed.notify_all()

    def IngestEvent(self, request: pb.IngestEventRequest, context: Any) -> pb.IngestEventResponse:
        self.change(request.event.session_id, request.event.item_id)
        return pb.IngestEventResponse(status=pb.INGEST_STATUS_ACCEPTED, consistency_token="c")

    def WatchRecommendations(
        self, request: pb.WatchRecommendationsRequest, context: Any
    ) -> Iterator[pb.WatchRecommendationsResponse]:
        session_id, told, ends = request.request.session_id, request.resume_token, self._ends
        repeated = self._answer(session_id)
        self._begin(request, context)
        if self.repeats and told:
            yield repeated
        while True:
            with self._changed:
                while self._ends == ends and context.is_active() and token_of(self._list(session_id)) == told:
                    self._changed.wait()
            if not context.is_active():
                return
            if self._ends != ends:
                assert self._ending is not None
                context.abort_with_status(self._ending.status())
            answer = self._answer(session_id)
            told = answer.resume_token
            with self._changed:
                self.answers += 1
            yield answer

    def _begin(self, request: pb.WatchRecommendationsRequest, context: Any) -> None:
        with self._changed:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
        if self.failures:
            context.abort_with_status(self.failures.pop(0).status())
        token = request.resume_token
        if not (request.request.session_id or request.request.user_id):
            _refuse(context, "request.session_id", "REQUIRED")
        if token and not token.startswith("t-"):
            _refuse(context, "resume_token", "MALFORMED")
        with self._changed:
            self.open += 1
        context.add_callback(self._gone)
        self.opened.release()

    def _gone(self) -> None:
        with self._changed:
            self.open -= 1
            self._changed.notify_all()
        self.closed.release()

    def _list(self, session_id: str) -> tuple[str, ...]:
        return self._lists.get(session_id, POPULAR)

    def _answer(self, session_id: str) -> pb.WatchRecommendationsResponse:
        items = self._list(session_id)
        results = [pb.RecommendResult(item_id=item, rank=rank) for rank, item in enumerate(items, 1)]
        response = pb.RecommendResponse(results=results, recommendation_id="r", model_version="fake")
        return pb.WatchRecommendationsResponse(response=response, resume_token=token_of(items))


def _refuse(context: Any, field: str, reason: str) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description="is wrong", reason=reason)
    status = status_pb2.Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message=f"{field}: is wrong")
    status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    context.abort_with_status(rpc_status.to_status(status))


@contextmanager
def fake_watches(threads: int = 16, calls_per_connection: int = 10_000) -> Iterator[FakeWatches]:
    """A thread for each watch that is open."""
    fake = FakeWatches()
    options = [("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", calls_per_connection)]
    server = grpc.server(ThreadPoolExecutor(threads), options=options)
    pb.add_RecommendationServiceServicer_to_server(fake, server)
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield fake
    finally:
        stopped = server.stop(0)
        fake.end_all(Failure(grpc.StatusCode.UNAVAILABLE))
        stopped.wait(HANG_GUARD_S)


if __name__ == "__main__":
    with fake_watches(2_000) as served:
        print(served.address, flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
