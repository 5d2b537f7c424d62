"""A real server over fakes, on a loop and a thread of its own, and a client that sends bytes."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from recserv import v1 as pb
from recserv.errors import InvalidInput, NotFound, RecservError
from recserv.metrics import Metrics
from recserv.pipeline.ingest import IngestOutcome
from recserv.pipeline.watch import Outcome, Watches, WatchHooks
from recserv.pipeline.watch_runner import WatchRunner, WatchSettings
from recserv.resilience.deadline import Deadline
from recserv.server.assembly import SERVICE, GrpcServer, ServerLimits
from recserv.server.call import Call
from recserv.server.ports import Backend
from recserv.types import (
    DegradedReason,
    Event,
    Explanation,
    ExplanationState,
    IngestStatus,
    Recommendation,
    RecommendQuery,
    Result,
    ShopperContext,
    ShopperKey,
    Source,
)
from tests.patience import HANG_GUARD_S, eventually

NOW_MS = 1_700_000_000_000
_PATIENT = dict.fromkeys(("default_deadline_ms", "group_timeout_ms"), int(HANG_GUARD_S * 1000))
T = TypeVar("T")


def answer(**changes: Any) -> Recommendation:
    results = tuple(
        Result(item_id=f"item-{n}", score=1.0 - n / 10, rank=n + 1, source=Source.POPULAR) for n in range(3)
    )
    return Recommendation(**{"results": results, "recommendation_id": "r-1", "model_version": "m-1", **changes})


class FakeRecommender:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.queries: list[RecommendQuery] = []
        self.keys: list[tuple[str, ShopperKey]] = []
        self.budgets_s: list[float] = []
        self.overloaded: list[bool] = []
        self.error: BaseException | None = None
        self.answer = answer()
        self.hold_contexts: threading.Event | None = None
        self.entered = threading.Semaphore(0)
        self.hold: threading.Event | None = None

    async def recommend(self, query: RecommendQuery, deadline: Deadline, *, overloaded: bool = False) -> Recommendation:
        self.overloaded.append(overloaded)
        self.queries.append(query)
        self.budgets_s.append(deadline.remaining_s())
        self.entered.release()
        while self.hold is not None and not self.hold.is_set():
            await asyncio.sleep(0.005)
        if self.error is not None:
            raise self.error
        if query.session_id == "degraded":
            return answer(degraded_reasons=(DegradedReason.INDEX_UNAVAILABLE,))
        return self.answer

    async def context(self, tenant: str, key: ShopperKey, deadline: Deadline) -> ShopperContext:
        self.keys.append((tenant, key))
        while self.hold_contexts is not None and not self.hold_contexts.is_set():
            await asyncio.sleep(0.005)
        if self.error is not None:
            raise self.error
        return ShopperContext(recent_item_ids=("a",), event_count=3, category_weights=(("toys", 0.5),))


class FakeIngestor:
    def __init__(self) -> None:
        self.watches = Watches()
        self.reset()

    def reset(self) -> None:
        self.events: list[Event] = []
        self.errors: dict[str, RecservError] = {}
        self.duplicates: set[str] = set()
        self.error: BaseException | None = None
        self.entered = threading.Semaphore(0)
        self.hold: threading.Event | None = None
        self.at_once = self.at_once_max = 0

    async def ingest(self, tenant: str, events: Sequence[Event]) -> list[IngestOutcome]:
        self.events += events
        self.entered.release()
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        while self.hold is not None and not self.hold.is_set():
            await asyncio.sleep(0.005)
        self.at_once -= 1
        if self.error is not None:
            raise self.error
        self.watches.acknowledged(tenant, events)
        return [self._outcome(event) for event in events]

    def _outcome(self, event: Event) -> IngestOutcome:
        if event.event_id in self.errors:
            return IngestOutcome(IngestStatus.REJECTED, error=self.errors[event.event_id])
        status = IngestStatus.DUPLICATE if event.event_id in self.duplicates else IngestStatus.ACCEPTED
        return IngestOutcome(status, f"token-{event.event_id}")


class FakeBoard:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.known = {
            "ready": (
                Explanation("a", "because", ExplanationState.READY),
                Explanation("b", "so", ExplanationState.TEMPLATE),
            ),
            "pending": (Explanation("a", "", ExplanationState.PENDING), Explanation("b", "so", ExplanationState.READY)),
        }
        self.entered = threading.Semaphore(0)
        self.hold: threading.Event | None = None

    async def explanations(self, tenant: str, token: str) -> tuple[Explanation, ...]:
        if token not in self.known:
            raise NotFound("explanation_token is unknown or has expired")
        return self.known[token]

    async def watch(self, tenant: str, token: str) -> AsyncIterator[Explanation]:
        for explanation in await self.explanations(tenant, token):
            yield explanation
            self.entered.release()
            while self.hold is not None and not self.hold.is_set():
                await asyncio.sleep(0.005)


class Failure(Exception):
    """What a client sees of an error: `status` is None if there were no details."""

    def __init__(self, error: grpc.RpcError):
        self.code: grpc.StatusCode = error.code()
        self.text: str = error.details() or ""
        self.status: status_pb2.Status | None = rpc_status.from_call(error)
        self.trailing = dict(error.trailing_metadata() or ())
        self.trailing_bytes = sum(len(value) for _, value in error.trailing_metadata() or ())
        super().__init__(f"{self.code}: {self.text}")

    def detail(self, kind: type[Any]) -> Any:
        return detail_of(self.status, kind)

    def fields(self) -> list[str]:
        return [v.field for v in self.detail(error_details_pb2.BadRequest).field_violations]


def detail_of(status: status_pb2.Status | None, kind: type[Any]) -> Any:
    assert status is not None, "no google.rpc.Status"
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            message = kind()
            packed.Unpack(message)
            return message
    raise AssertionError(f"no {kind.__name__} in {status}")


class LoopThread:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = HANG_GUARD_S) -> T:
        return self.begin(work).result(timeout_s)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(HANG_GUARD_S)
        self._loop.close()


class Client:
    """Sends bytes or messages to one server. Methods give bytes, or raise Failure."""

    def __init__(self, address: str):
        self.channel = grpc.insecure_channel(address, options=(("grpc.max_send_message_length", -1),))

    def unary(
        self, method: str, body: bytes | Any = b"", timeout: float | None = HANG_GUARD_S, **options: Any
    ) -> bytes:
        call = self.channel.unary_unary(f"/{SERVICE}/{method}")
        try:
            return call(_bytes(body), timeout=timeout, **options)
        except grpc.RpcError as error:
            raise Failure(error) from None

    def server_stream(self, method: str, body: bytes | Any = b"", timeout: float = HANG_GUARD_S) -> list[bytes]:
        try:
            return list(self.channel.unary_stream(f"/{SERVICE}/{method}")(_bytes(body), timeout=timeout))
        except grpc.RpcError as error:
            raise Failure(error) from None

    @contextmanager
    def opened(self, method: str, body: bytes | Any, timeout: float = HANG_GUARD_S) -> Iterator[Any]:
        """A stream of answers, cancelled at the end of the block. Reading it raises Failure."""
        call = self.channel.unary_stream(f"/{SERVICE}/{method}")(_bytes(body), timeout=timeout)
        try:
            yield call
        except grpc.RpcError as error:
            raise Failure(error) from None
        finally:
            call.cancel()

    def open_events(self, groups: Iterable[bytes | Any], timeout: float | None = HANG_GUARD_S) -> Any:
        return self.channel.stream_stream(f"/{SERVICE}/StreamEvents")((_bytes(g) for g in groups), timeout=timeout)

    def events(self, groups: Iterable[bytes | Any]) -> tuple[list[pb.StreamEventsResponse], Failure | None]:
        """What came back, and how the stream ended if not well."""
        answers = []
        try:
            for raw in self.open_events(groups):
                answers.append(pb.StreamEventsResponse.FromString(raw))
        except grpc.RpcError as error:
            return answers, Failure(error)
        return answers, None


class LookCounter(WatchHooks):
    def __init__(self) -> None:
        self.count: Counter[Outcome] = Counter()

    def on_look(self, outcome: Outcome) -> None:
        self.count[outcome] += 1


class StillClock:
    """Seconds; they pass when a test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Service(Client):
    """The server, its fakes and a client of it.

    Deadlines and the waiting of calls are counted on a clock that stands still: budgets stay whole and the overload
    control's limit what it was, however slow the machine. What gRPC or asyncio end by themselves they end in real time.
    """

    def __init__(self, **limits: Any):
        self.clock = StillClock()
        self.recommender, self.ingestor, self.board = FakeRecommender(), FakeIngestor(), FakeBoard()
        self.metrics = Metrics()
        self._limits = ServerLimits(**{**_PATIENT, **limits})
        self._loop = LoopThread()
        self.run = self._loop.run
        self.server: GrpcServer = self.run(self._start())
        super().__init__(self.address)

    async def _start(self) -> GrpcServer:
        self.looks = LookCounter()
        self.watches = self.ingestor.watches = Watches(self.looks)
        # Looks of one watch may follow each other at once.
        self.watcher = WatchRunner(self.watches, None, WatchSettings(interval_s=0.0), clock=self.clock)
        self.backend = Backend(self.recommender, self.ingestor, self.board, self.watcher)
        server = GrpcServer(
            self.backend,
            metrics=self.metrics,
            limits=self._limits,
            clock=lambda: NOW_MS,
            monotonic=self.clock,
        )
        self.address = await server.start("127.0.0.1", 0)
        return server

    def drain_soon(self, grace_s: float = HANG_GUARD_S) -> Any:
        """Begins to drain; the future's result is whether every call finished."""
        return self._loop.begin(self.server.drain(grace_s))

    def reset(self) -> None:
        for fake in (self.recommender, self.ingestor, self.board):
            fake.reset()

    def close(self) -> None:
        self.channel.close()
        self.run(self.server.drain(0.0))
        self._loop.close()

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, {"tenant": "default", **labels}) or 0.0


def _bytes(body: bytes | Any) -> bytes:
    return body if isinstance(body, bytes) else body.SerializeToString()


def view(event_id: str = "e-1", **changes: Any) -> pb.Event:
    fields = {"event_type": pb.EVENT_TYPE_VIEW, "session_id": "s-1", "item_id": "item-1", **changes}
    return pb.Event(event_id=event_id, **fields)


@contextmanager
def nothing_of_a_call_stays() -> Iterator[None]:
    """Calls and their errors are gone soon after the block, with no help of the collector."""
    gc.collect()

    def held() -> list[Any]:
        return [entry for entry in gc.get_objects() if isinstance(entry, InvalidInput | Call)]

    known = {id(entry): entry for entry in held()}
    gc.disable()
    try:
        yield
        eventually(lambda: all(id(entry) in known for entry in held()), "what calls held is given back")
    finally:
        gc.enable()
